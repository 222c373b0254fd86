// A face before and after, one over the other at their own resolution, with a line to drag between them.

import { el } from "./dom.js";

export function compare(before, after, what) {
  const under = el("img", { src: before, alt: `${what}, before`, draggable: "false" });
  const over = el("img", { src: after, alt: `${what}, after`, draggable: "false", class: "over" });
  const line = el("span", { class: "line", "aria-hidden": "true" });
  const range = el("input", {
    type: "range", min: 0, max: 100, value: 50, "aria-label": `${what}: how much of the photo before is shown`,
    oninput: () => move(),
  });
  const stage = el("div", { class: "stage" }, under, over, line, range);
  const scroller = el("div", { class: "scroller" }, stage);
  let zoom = 1;
  const buttons = [1, 2].map((factor) => el("button", {
    type: "button", "aria-pressed": String(factor === zoom), onclick: () => { zoom = factor; fit(); },
  }, `${factor * 100} %`));
  const figure = el("figure", { class: "compare" }, el("div", { class: "tagged" }, scroller,
    el("span", { class: "tag left", "aria-hidden": "true" }, "Before"),
    el("span", { class: "tag right", "aria-hidden": "true" }, "After")),
    el("figcaption", {}, el("span", { class: "zoom", role: "group", "aria-label": "Zoom" }, buttons)));

  function move() {
    stage.style.setProperty("--cut", `${range.value}%`);
    range.setAttribute("aria-valuetext", `${range.value} % before, ${100 - range.value} % after`);
  }
  // At 100 % a pixel of the photo is a pixel of the screen.
  function fit() {
    if (!under.naturalWidth) return;
    stage.style.width = `${(under.naturalWidth / devicePixelRatio) * zoom}px`;
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(zoom === i + 1)));
    scroller.scrollLeft = (scroller.scrollWidth - scroller.clientWidth) / 2;
    scroller.scrollTop = (scroller.scrollHeight - scroller.clientHeight) / 2;
  }
  under.addEventListener("load", fit);
  move();
  return figure;
}

const MARK = { all: ["✓", "good"], some: ["!", "fair"], none: ["✕", "poor"] };

export function verdict(level, text) {
  const [mark, kind] = MARK[level];
  return el("p", { class: `verdict ${kind}` }, el("span", { class: "mark", "aria-hidden": "true" }, mark), el("span", {}, text));
}

export function described(face) {
  const rows = face.figures.recognisers.map((one) => el("tr", {},
    el("th", { scope: "row" }, one.name), el("td", {}, one.before.toFixed(2)), el("td", {}, one.after.toFixed(2)),
    el("td", {}, one.threshold.toFixed(2)), el("td", {}, one.hidden ? "hidden" : "matches")));
  const psnr = face.figures.psnr === null ? "unchanged" : `PSNR ${face.figures.psnr.toFixed(1)} dB`;
  return [
    verdict(face.level, face.verdict),
    el("p", { class: "seen" }, `The change is ${face.visible} visible`),
    el("details", { class: "figures" }, el("summary", {}, "Figures"),
      el("div", { class: "wide" }, el("table", {},
        el("thead", {}, el("tr", {}, ["Recogniser", "Before", "After", "Match above", ""].map((text) => el("th", { scope: "col" }, text)))),
        el("tbody", {}, rows))),
      el("p", { class: "hint" }, `Likeness to the original face, 1 is equal. ${psnr}, SSIM ${face.figures.ssim.toFixed(3)} over the face; no pixel changed by more than ${face.figures.change} of 255.`)),
  ];
}
