// A place to drop photos on, with a file picker; files that are pasted go to the one that is in use.

import * as api from "./api.js";
import { el, announce, count } from "./dom.js";

const places = [];

export function dropPlace(root, { role, title, hint, poke, about }) {
  const input = el("input", {
    type: "file", multiple: true, id: `files-${role}`, class: "unseen",
    accept: "image/*,.heic,.heif,.hif,.avif,.tif,.tiff",
    onchange: () => { add([...input.files]); input.value = ""; },
  });
  const rejected = el("ul", { class: "rejected", "aria-label": "Files that were not taken" });
  const busy = el("p", { class: "busy", hidden: true });
  const label = el("label", { class: "drop", for: input.id },
    el("span", { class: "drop-title" }, title),
    el("span", { class: "button primary" }, "Choose photos"),
    el("span", { class: "drop-hint" }, hint));
  root.append(input, label, busy, rejected);

  for (const kind of ["dragenter", "dragover"]) {
    label.addEventListener(kind, (event) => { event.preventDefault(); label.classList.add("over"); });
  }
  for (const kind of ["dragleave", "drop"]) label.addEventListener(kind, () => label.classList.remove("over"));
  label.addEventListener("drop", async (event) => {
    event.preventDefault();
    add(await dropped(event.dataTransfer));
  });

  let waiting = [], sending = 0, sent = 0;
  function add(files) {
    waiting.push(...files.filter((file) => !file.name.startsWith(".")));
    while (sending < 2 && waiting.length) send();
  }
  async function send() {
    const file = waiting.shift();
    sending++;
    tell();
    try {
      if (file.type.startsWith("video/")) throw new Error(`${file.name} is a film; protect it with \`tipim protect\`, or save one picture`);
      if (file.size > about.photo_bytes) throw new Error(`${file.name} is larger than ${Math.round(about.photo_bytes / 2 ** 20)} MB; make it smaller`);
      await api.upload(file, role);
    } catch (error) {
      const row = el("li", {}, el("span", {}, error.message),
        el("button", { class: "close", "aria-label": "Dismiss", onclick: () => row.remove() }, "×"));
      rejected.append(row);
      announce(error.message);
    }
    sending--;
    sent++;
    poke();
    if (waiting.length) send();
    tell();
  }
  function tell() {
    const left = waiting.length + sending;
    if (!left) sent = 0;
    busy.hidden = !left;
    busy.textContent = left ? `Adding ${count(left, "photo")}…` : "";
  }
  const place = { root, add, label };
  places.push(place);
  return place;
}

// Anything dropped beside a place goes to the first one that is visible, and never opens instead of the page.
export function catchStrays() {
  const visible = () => places.find((place) => place.root.offsetParent !== null);
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", async (event) => {
    if (event.defaultPrevented) return;
    event.preventDefault();
    visible()?.add(await dropped(event.dataTransfer));
  });
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files || [])];
    if (!files.length) return;
    event.preventDefault();
    visible()?.add(files);
  });
}

async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  return (await Promise.all(entries.map(filesOf))).flat();
}

const PHOTO = /\.(jpe?g|jpe|jfif|png|apng|webp|avifs?|hei[cf]|hif|tiff?|bmp|dib|gif)$/i;

async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((done, failed) => entry.file(done, failed))];
  const reader = entry.createReader(), found = [];
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) break;
    found.push(...some);
  }
  const inside = found.filter((one) => !one.name.startsWith(".") && (one.isDirectory || PHOTO.test(one.name)));
  return (await Promise.all(inside.map(filesOf))).flat();
}
