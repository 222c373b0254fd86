// Small helpers for elements and words.

export const $ = (selector, root = document) => root.querySelector(selector);

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const count = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

export function duration(seconds) {
  if (seconds < 10) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 90) return `${5 * Math.round(seconds / 5)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export function size(bytes) {
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

// Renders only when what it shows has changed, so that focus and scrolling stay.
export function whenChanged(render) {
  let last;
  return (...values) => {
    const now = JSON.stringify(values);
    if (now === last) return;
    last = now;
    render(...values);
  };
}

export function announce(text) {
  const node = $("#status");
  if (node.textContent !== text) node.textContent = text;
}

export function trouble(text) {
  const node = $("#trouble");
  node.textContent = text || "";
  node.hidden = !text;
}

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// A sentence of the server as one of the page; a name of a file at its start stays as it is.
export const sentence = (text) => `${/^[^,;]*?\.\w{2,5} /.test(text) ? text : capital(text)}.`;
