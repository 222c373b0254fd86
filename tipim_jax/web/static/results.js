// What became of the photos: a verdict for every face, and the files to download.

import * as api from "./api.js";
import { compare, described } from "./compare.js";
import { el, count, sentence, size, whenChanged } from "./dom.js";

export function resultList(root, { back }) {
  return whenChanged((photos, results) => {
    const done = photos.filter((photo) => results[photo.id]);
    if (!done.length) { root.replaceChildren(); return; }
    const faces = done.flatMap((photo) => results[photo.id].faces.filter((face) => !face.skipped));
    const saved = done.filter((photo) => results[photo.id].output);
    const open = faces.filter((face) => face.level !== "all").length;
    const summary = !faces.length ? "No photo could be protected."
      : !open ? `${faces.length === 1 ? "The face is" : `All ${faces.length} faces are`} hidden from every recogniser that was asked.`
      : `${open === faces.length ? (open === 1 ? "The face is" : "All faces are") : open === 1 ? "One face is" : `${open} faces are`} still matched by some recogniser. High strength hides most.`;
    const title = el("h2", { tabindex: -1 }, faces.length ? `${count(faces.length, "face")} done` : "Done");
    root.replaceChildren(
      el("div", { class: "results-top" },
        el("div", {}, title, el("p", { class: "lead" }, summary)),
        el("div", { class: "row" },
          el("button", { type: "button", class: "button", onclick: back }, "Change and redo"),
          saved.length > 1 && el("a", { class: "button primary", href: api.archive(), download: "" }, "Download all (ZIP)"))),
      ...done.map((photo) => card(photo, results[photo.id], saved.length === 1)),
      saved.length ? el("p", { class: "hint" }, "All photos of this page are deleted when tipim ends. A mask fools the recognisers that were asked, and most others; none is fooled for certain.") : "");
  });
}

function card(photo, result, only) {
  const title = el("div", { class: "photo-title" }, el("h3", {}, result.output || photo.name),
    result.output && el("a", { class: `button${only ? " primary" : ""}`, href: api.result(photo.id), download: "", "aria-label": `Download ${result.output}` },
      "Download", el("span", { class: "size" }, size(result.bytes))));
  if (result.error) return el("article", { class: "result" }, title, el("p", { class: "note poor" }, sentence(result.error)));
  const many = result.faces.length > 1;
  return el("article", { class: "result" }, title,
    el("div", { class: "faces" }, result.faces.filter((face) => !face.skipped).map((face) => {
      const url = (when) => api.picture(photo.id, `face-${face.number}-${when}`);
      return el("section", { class: "face", "aria-label": `Face ${face.number} of ${photo.name}` },
        compare(url("before"), url("after"), `Face ${face.number}`),
        el("div", { class: "words" }, many && el("h4", {}, `Face ${face.number}`), ...described(face)));
    })),
    result.faces.filter((face) => face.skipped).map((face) => el("p", { class: "note" }, `Face ${face.number} was left as it is: ${face.skipped}.`)),
    result.notes.map((note) => el("p", { class: "note" }, sentence(note))));
}
