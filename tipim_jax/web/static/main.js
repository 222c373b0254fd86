// Puts the page together and keeps it up to date.

import * as api from "./api.js";
import { checkTab } from "./check.js";
import { $, announce, trouble } from "./dom.js";
import { catchStrays, dropPlace } from "./drop.js";
import { panel } from "./panel.js";
import { photoList } from "./photos.js";
import { resultList } from "./results.js";

// The token has done its work; it stays out of the history and of what is copied from the address bar.
history.replaceState(null, "", "/");

let timer = 0, asking = false, again = false;

function poke() {
  clearTimeout(timer);
  if (asking) { again = true; return; }
  timer = setTimeout(refresh, 0);
}

async function refresh() {
  asking = true;
  let pause = 0;
  try {
    const state = await api.state();
    if (state.error) trouble(`Nothing can be computed: ${state.error}`);
    render(state);
    pause = state.busy ? 400 : state.loading ? 1500 : 0;
  } catch (error) {
    if (error.status === 404) sessionStorage.removeItem("album");
    trouble(error.message);
  }
  asking = false;
  if (again) { again = false; poke(); } else if (pause) timer = setTimeout(refresh, pause);
}

let render = () => {};

function tabs() {
  const all = [...document.querySelectorAll("[role=tab]")];
  const choose = (tab) => {
    for (const one of all) {
      const on = one === tab;
      one.setAttribute("aria-selected", String(on));
      one.tabIndex = on ? 0 : -1;
      $(`#${one.getAttribute("aria-controls")}`).hidden = !on;
    }
  };
  for (const [i, tab] of all.entries()) {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = all[(i + step + all.length) % all.length];
      choose(next);
      next.focus();
    });
  }
}

async function begin() {
  tabs();
  const about = await api.open();
  const protect = $("#protect"), results = $("#results");
  const place = dropPlace($("#drop-protect"), {
    role: "protect", title: "Drop photos here", hint: `or paste them. ${about.known}.`, poke, about,
  });
  const check = checkTab($("#check"), { about, poke });
  catchStrays();

  let photos = [], settings = null;
  const list = photoList($("#photos"), { poke, changed: () => settings.show() });
  // A photo none of whose faces is ticked is left out; one without faces is not.
  const faces = () => photos.filter((photo) => !photo.looking && !photo.error).map((photo) => {
    const numbers = list.chosen(photo);
    return { photo, numbers: numbers.length || !photo.faces.some((face) => !face.small) ? numbers : null };
  });
  const view = (name) => { protect.dataset.view = name; };
  const showDone = () => { view("results"); scrollTo(0, 0); $("h2", results)?.focus(); };
  settings = panel($("#panel"), { about, faces, poke, showDone });
  const showResults = resultList(results, { back: () => { view("edit"); scrollTo(0, 0); $("#strength").focus(); } });
  let was = null;

  render = (state) => {
    photos = state.photos.filter((photo) => photo.role === "protect");
    const run = state.run;
    const active = run && ["waiting", "running"].includes(run.state) && !run.unwanted;
    place.root.classList.toggle("slim", photos.length > 0);
    $(".columns", protect).hidden = !photos.length;
    list.update(photos, active && run.state === "running" ? run : null, Boolean(active));
    settings.update(state);
    check.update(state);
    if (!active) showResults(photos, state.results);
    const finished = run?.state === "done";
    if (finished && was !== "done") {
      showDone();
      announce($(".lead", results)?.textContent || "");
    }
    if (!photos.length || active) view("edit");
    was = run ? run.state : "none";
  };
  poke();
}

begin().catch((error) => trouble(error.message));
