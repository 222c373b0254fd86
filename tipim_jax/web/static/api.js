// What the page asks the server for. The cookie that the server set is the token; nothing else is sent.

let album = "";

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("tipim does not answer any more; start `tipim serve` again.");
  }
  if (answer.status === 204) return null;
  const text = await answer.text();
  let body = {};
  try {
    body = JSON.parse(text);
  } catch {
    body = { error: text };
  }
  if (!answer.ok) throw Object.assign(new Error(body.error || answer.statusText), { status: answer.status });
  return body;
}

function post(path, value) {
  return ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(value) });
}

const base = () => `/api/albums/${album}`;

export async function open() {
  const about = await ask("/api/about");
  album = sessionStorage.getItem("album") || "";
  try {
    if (album) await ask(base());
  } catch (error) {
    if (error.status !== 404) throw error;
    album = "";
  }
  if (!album) {
    album = (await ask("/api/albums", { method: "POST" })).album;
    sessionStorage.setItem("album", album);
  }
  return about;
}

export const state = () => ask(base());
export const upload = (file, role) =>
  ask(`${base()}/photos?${new URLSearchParams({ name: file.name, role })}`, {
    method: "POST",
    headers: { "Content-Type": "application/octet-stream" },
    body: file,
  });
export const remove = (photo) => ask(`${base()}/photos/${photo}`, { method: "DELETE" });
export const preview = (asked) => post(`${base()}/preview`, asked);
export const run = (asked) => post(`${base()}/run`, asked);
export const cancel = () => ask(`${base()}/run`, { method: "DELETE" });
export const search = () => post(`${base()}/search`, {});
export const picture = (photo, name) => `${base()}/photos/${photo}/pictures/${name}`;
export const result = (photo) => `${base()}/photos/${photo}/result`;
export const archive = () => `${base()}/zip`;
