// Who would find a person: a protected photo against other photos of them.

import * as api from "./api.js";
import { dropPlace } from "./drop.js";
import { verdict } from "./compare.js";
import { el, announce, count, sentence, trouble, whenChanged } from "./dom.js";

export function checkTab(root, { about, poke }) {
  const zones = {};
  const columns = el("div", { class: "two" });
  for (const [role, title, text] of [
    ["check", "Photos to check", "One or more protected photos"],
    ["known", "Other photos of the person", "As a service may have them; in each, the largest face counts"],
  ]) {
    const list = el("ul", { class: "thumbs", "aria-label": title });
    const column = el("div", { class: "column" }, el("h2", {}, title), el("p", { class: "hint" }, text));
    dropPlace(column, { role, title: "Drop photos here", hint: "or paste them", poke, about });
    column.append(list);
    columns.append(column);
    zones[role] = whenChanged((photos) => list.replaceChildren(...photos.map(thumb)));
  }
  const go = el("button", {
    type: "button", class: "button primary big",
    onclick: async () => { try { await api.search(); } catch (error) { trouble(error.message); } poke(); },
  }, "Who would find them?");
  const state = el("p", { class: "far" });
  const found = el("div", { class: "results" });
  root.append(el("p", { class: "lead intro" }, "Would somebody who has other photos of a person find the protected one?"),
    columns, el("div", { class: "go center" }, go, state), found);

  function thumb(photo) {
    const picture = photo.looking ? el("span", { class: "blank" }) : photo.error ? null
      : el("img", { src: api.picture(photo.id, photo.faces.length ? "face-1" : "thumb"), alt: "" });
    const text = photo.looking ? "Looking for faces…" : photo.error ? sentence(photo.error)
      : photo.faces.length ? count(photo.faces.length, "face") : "No face was found.";
    return el("li", { class: "thumb" }, picture, el("div", {}, el("span", { class: "name" }, photo.name),
      el("span", { class: photo.error ? "note poor" : "hint" }, text)),
      el("button", { class: "close", "aria-label": `Remove ${photo.name}`, onclick: async () => { await api.remove(photo.id).catch(() => {}); poke(); } }, "×"));
  }

  const showFound = whenChanged((photos, result) => {
    if (!result.photos) { found.replaceChildren(); return; }
    const cards = photos.filter((photo) => result.photos[photo.id]).map((photo) => {
      const one = result.photos[photo.id];
      return el("article", { class: "result" }, el("div", { class: "photo-title" }, el("h3", {}, photo.name)),
        one.error && el("p", { class: "note poor" }, sentence(one.error)),
        el("div", { class: "faces" }, one.faces.map((face) => el("section", { class: "face small", "aria-label": `Face ${face.number} of ${photo.name}` },
          el("img", { class: "portrait", src: api.picture(photo.id, `face-${face.number}`), alt: "" }),
          el("div", { class: "words" }, one.faces.length > 1 && el("h4", {}, `Face ${face.number} (${face.place})`),
            verdict(face.level, face.verdict), figures(face))))));
    });
    const title = el("h2", { tabindex: -1 }, `Compared with ${count(result.known, "photo")} of the person`);
    found.replaceChildren(title, ...cards, ...result.notes.map((note) => el("p", { class: "note" }, sentence(note))));
    title.focus();
  });

  const figures = (face) => el("details", { class: "figures" }, el("summary", {}, "Figures"), el("div", { class: "wide" }, el("table", {},
    el("thead", {}, el("tr", {}, ["Recogniser", "Likeness", "Match above", ""].map((text) => el("th", { scope: "col" }, text)))),
    el("tbody", {}, face.recognisers.map((one) => el("tr", {}, el("th", { scope: "row" }, one.name),
      el("td", {}, one.cosine.toFixed(2)), el("td", {}, one.threshold.toFixed(2)), el("td", {}, one.found ? "finds" : "does not")))))));

  return {
    update(latest) {
      const by = (role) => latest.photos.filter((photo) => photo.role === role);
      for (const role of ["check", "known"]) zones[role](by(role));
      const usable = (role) => by(role).some((photo) => photo.faces.length);
      const search = latest.search, active = search && ["waiting", "running"].includes(search.state);
      go.disabled = active || !usable("check") || !usable("known");
      state.textContent = active ? (latest.loading ? `Getting ready: ${latest.loading}…` : "Comparing…") : search?.error ? sentence(search.error) : "";
      if (state.textContent) announce(state.textContent);
      showFound(by("check"), search?.state === "done" ? latest.found : {});
    },
  };
}
