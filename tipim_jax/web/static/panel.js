// The strength with its preview, the options of the files, and the button that starts; then the progress.

import * as api from "./api.js";
import { compare, described } from "./compare.js";
import { el, announce, capital, count, duration, sentence, trouble, whenChanged } from "./dom.js";

const MEANS = {
  low: "Seen least, and hides least.",
  medium: "A balance: most recognisers lose the face; who looks closely sees a change.",
  high: "Hides best. People who know the face see the change.",
};

export function panel(root, { about, faces, poke, showDone }) {
  let strength = "medium", asked = null, latest = null, started = false;
  const names = about.strengths;
  const slider = el("input", {
    type: "range", id: "strength", min: 0, max: names.length - 1, step: 1, value: names.indexOf(strength),
    list: "strengths", "aria-describedby": "means", oninput: () => { strength = names[slider.value]; tell(); },
  });
  const marks = el("div", { class: "marks", "aria-hidden": "true" }, names.map((name, i) =>
    el("span", { onclick: () => { slider.value = i; strength = name; tell(); } }, capital(name))));
  const means = el("p", { id: "means", class: "hint" });
  const select = el("select", { id: "preview-face", onchange: () => show() });
  const look = el("button", { type: "button", class: "button", onclick: askPreview }, "Preview");
  const seen = el("div", { class: "preview", "aria-live": "polite" });

  const format = el("select", { id: "format", onchange: () => show() }, el("option", { value: "" }, "As the photo"),
    Object.entries(about.formats).map(([key, name]) => el("option", { value: key }, name)));
  const keep = el("input", { type: "checkbox", id: "keep" });
  const options = el("details", { class: "options" }, el("summary", {}, "File options"),
    el("p", { class: "field" }, el("label", { for: "format" }, "Format"), format),
    el("p", { class: "field check" }, keep, el("label", { for: "keep" }, "Keep metadata",
      el("span", { class: "hint" }, "Place, date and camera; removed otherwise"))));

  const start = el("button", { type: "button", class: "button primary big", onclick: begin });
  const bar = el("progress", { max: 1, "aria-label": "Progress" });
  const far = el("p", { class: "far" });
  const stop = el("button", { type: "button", class: "button", onclick: async () => { await api.cancel(); poke(); } }, "Cancel");
  const running = el("div", { class: "running", hidden: true }, bar, far, stop);
  const note = el("p", { class: "hint", hidden: true });
  const done = el("button", { type: "button", class: "button", hidden: true, onclick: showDone }, "Show results");

  const controls = el("fieldset", { class: "bare" }, el("legend", { class: "unseen" }, "Strength and preview"),
    el("label", { for: "strength", class: "title" }, "Strength"), slider, marks, means,
    el("label", { for: "preview-face", class: "title" }, "Preview on"),
    el("div", { class: "row" }, select, look), seen, options);
  root.append(controls, el("div", { class: "go" }, start, running, note, done));

  function encoding() { return { format: format.value || null, keep_metadata: keep.checked }; }

  async function askPreview() {
    const [photo, face] = select.value.split(" ");
    asked = { photo, face: Number(face), strength, ...encoding() };
    try { await api.preview(asked); } catch (error) { trouble(error.message); }
    poke();
  }

  async function begin() {
    started = true;
    const wanted = Object.fromEntries(faces().map(({ photo, numbers }) => [photo.id, numbers]).filter(([, numbers]) => numbers !== null));
    try { await api.run({ strength, faces: wanted, ...encoding() }); } catch (error) { trouble(error.message); }
    poke();
  }

  function tell() {
    slider.setAttribute("aria-valuetext", capital(strength));
    [...marks.children].forEach((mark, i) => mark.classList.toggle("on", names[i] === strength));
    means.textContent = MEANS[strength] || "";
    show();
  }

  const showPreview = whenChanged((state, result, error, left, key) => {
    if (state === null) { seen.replaceChildren(); return; }
    if (state === "done") {
      const url = (when) => api.picture(key.photo, `preview-${key.face}-${key.strength}-${key.format}-${when}`);
      seen.replaceChildren(compare(url("before"), url("after"), `Preview at ${key.strength}`), ...described(result));
      announce(`Preview: ${result.verdict}. The change is ${result.visible} visible.`);
    } else if (error) seen.replaceChildren(el("p", { class: "note poor" }, sentence(error)));
    else if (state === "cancelled") seen.replaceChildren();
    else seen.replaceChildren(el("p", { class: "working" }, latest?.loading ? `Getting ready: ${latest.loading}…` : left ? `Making a preview, about ${duration(left)} left…` : "Making a preview…"));
  });

  const fillSelect = whenChanged((list) => {
    const before = select.value;
    select.replaceChildren(...list.map(([value, text]) => el("option", { value }, text)));
    if (list.some(([value]) => value === before)) select.value = before;
  });

  function show() {
    if (!latest) return;
    const list = faces();
    const total = list.reduce((sum, { numbers }) => sum + (numbers || []).length, 0);
    const photos = list.filter(({ numbers }) => numbers?.length).length;
    fillSelect(list.flatMap(({ photo }) => photo.faces.filter((face) => !face.small).map((face) =>
      [`${photo.id} ${face.number}`, photo.faces.length > 1 ? `${photo.name}, face ${face.number} (${face.place})` : photo.name])));
    const run = latest.run, active = run && ["waiting", "running"].includes(run.state) && !run.unwanted;
    controls.disabled = Boolean(active);
    look.disabled = !select.value;
    start.hidden = active;
    done.hidden = active || !Object.keys(latest.results).length;
    running.hidden = !active;
    start.disabled = !total;
    start.textContent = total ? `Protect ${count(total, "face")}${photos > 1 ? ` in ${photos} photos` : ""}` : "No face is ticked";

    const [photo, face] = select.value.split(" ");
    const wanted = (one) => one.photo === photo && one.face === Number(face) && one.strength === strength && one.format === (format.value || "own");
    const found = latest.previews.find((one) => wanted(one) && one.state !== "cancelled");
    showPreview(found ? found.state : null, found?.result ?? null, found?.error ?? "", found?.left ? Math.ceil(found.left) : null, found ?? null);

    if (active) {
      const part = run.masked / run.faces;
      if (run.state === "waiting") {
        bar.removeAttribute("value");
        far.textContent = latest.loading ? `Getting ready: ${latest.loading}…` : run.ahead ? `Waiting for ${count(run.ahead, "job")} of other tabs` : "Next in line…";
      } else {
        if (part) bar.value = part; else bar.removeAttribute("value");
        const left = run.masked === run.faces ? "checking the results…" : run.left ? `about ${duration(run.left)} left` : "estimating the time…";
        far.textContent = `${run.masked} of ${count(run.faces, "face")} · ${left}`;
      }
      announce(run.state === "waiting" ? far.textContent : `${run.masked} of ${count(run.faces, "face")} done`);
      document.title = `${run.masked}/${run.faces} · tipim`;
    } else document.title = "tipim";
    const ended = run && !active && started;
    const text = !ended ? "" : run.error ? sentence(run.error) : run.unwanted ? "Cancelled. What was done before is kept." : "";
    note.textContent = text;
    note.hidden = !text;
    if (text) announce(text);
  }

  tell();
  return { update(state) { latest = state; show(); }, show };
}
