// The photos as cards: faces outlined, each with a tick.

import * as api from "./api.js";
import { el, $, sentence } from "./dom.js";

export function photoList(root, { poke, changed }) {
  const cards = new Map(), left = new Map(); // id -> card; id -> numbers of faces that are not ticked
  const chosen = (photo) => photo.faces.filter((face) => !face.small && !left.get(photo.id)?.has(face.number)).map((face) => face.number);

  function update(photos, progress, locked) {
    for (const [id, card] of cards) {
      if (!photos.some((photo) => photo.id === id)) { card.node.remove(); cards.delete(id); left.delete(id); }
    }
    let made = 0; // faces before this one, in the order in which they are done
    for (const photo of photos) {
      const key = JSON.stringify(photo);
      const card = cards.get(photo.id);
      if (!card || card.key !== key) {
        const node = makeCard(photo);
        if (card) card.node.replaceWith(node);
        else root.append(node);
        cards.set(photo.id, { key, node });
      }
      const node = cards.get(photo.id).node;
      for (const input of node.querySelectorAll("input")) input.disabled = locked;
      const close = $(".close", node);
      if (close) close.disabled = locked;
      for (const face of photo.faces) {
        const chip = $(`[data-face="${face.number}"]`, node);
        let state = "";
        if (progress && chosen(photo).includes(face.number)) {
          state = made < progress.masked ? "done" : made === progress.masked ? "working" : "waiting";
          made++;
        }
        if (chip.dataset.state !== state) {
          chip.dataset.state = state;
          $(".chip-state", chip).textContent = { done: "done", working: "working", waiting: "waiting" }[state] || "";
        }
      }
    }
  }

  function makeCard(photo) {
    const close = el("button", {
      class: "close", "aria-label": `Remove ${photo.name}`,
      onclick: async () => { await api.remove(photo.id).catch(() => {}); poke(); },
    }, "×");
    const title = el("div", { class: "photo-title" }, el("h3", {}, photo.name), close);
    if (photo.looking) return el("li", { class: "photo" }, title, el("p", { class: "blank" }, "Looking for faces…"));
    if (photo.error) return el("li", { class: "photo" }, title, el("p", { class: "note poor" }, sentence(photo.error)));

    const frame = el("div", { class: "frame" }, el("img", { src: api.picture(photo.id, "thumb"), alt: `Thumbnail of ${photo.name}` }));
    frame.style.aspectRatio = `${photo.width} / ${photo.height}`;
    frame.style.setProperty("--ratio", photo.width / photo.height);
    const chips = el("ul", { class: "chips", "aria-label": `Faces of ${photo.name}` });
    for (const face of photo.faces) {
      const id = `tick-${photo.id}-${face.number}`;
      const [x, y, w, h] = face.box;
      const outline = el("label", { class: "outline", for: face.small ? null : id, "aria-hidden": "true" });
      outline.style.left = `${(100 * x) / photo.width}%`;
      outline.style.top = `${(100 * y) / photo.height}%`;
      outline.style.width = `${(100 * w) / photo.width}%`;
      outline.style.height = `${(100 * h) / photo.height}%`;
      outline.append(el("span", {}, String(face.number)));
      const off = left.get(photo.id)?.has(face.number);
      const box = el("input", {
        type: "checkbox", id, checked: !face.small && !off, disabled: face.small,
        "aria-label": `Protect face ${face.number} (${face.place}) of ${photo.name}`,
        onchange: () => {
          const set = left.get(photo.id) || new Set();
          if (box.checked) set.delete(face.number); else set.add(face.number);
          left.set(photo.id, set);
          show();
          changed();
        },
      });
      const chip = el("li", { class: "chip", "data-face": face.number }, el("label", {}, box,
        el("img", { src: api.picture(photo.id, `face-${face.number}`), alt: "" }),
        el("span", { class: "tick", "aria-hidden": "true" }), el("span", { class: "chip-state" })));
      const show = () => { for (const one of [outline, chip]) one.classList.toggle("off", !box.checked); };
      for (const kind of ["pointerenter", "focusin"]) chip.addEventListener(kind, () => outline.classList.add("hot"));
      for (const kind of ["pointerleave", "focusout"]) chip.addEventListener(kind, () => outline.classList.remove("hot"));
      show();
      frame.append(outline);
      chips.append(chip);
    }
    const small = photo.faces.filter((face) => face.small).length;
    const nothing = !photo.faces.length ? "No face was found; nothing to protect."
      : small === photo.faces.length ? "Every face is too small; nothing to protect."
      : small ? `${small} of the faces ${small === 1 ? "is" : "are"} too small to be recognised.` : "";
    return el("li", { class: "photo" }, title, frame, chips, nothing && el("p", { class: "note" }, nothing));
  }
  return { update, chosen };
}
