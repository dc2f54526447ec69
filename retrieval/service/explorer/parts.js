// Small parts of pages. Text is always set as text: a name in the catalogue can never become markup.
// Names, genres and ids may hold anything: characters that hide, reorder or steer are shown as �, and what is long is cut.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;
export function plain(text, most = 160) {
  const shown = String(text ?? "").replace(UNSEEN, "\ufffd");
  return shown.length > most ? `${shown.slice(0, most - 1)}…` : shown;
}

export function el(name, given = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

export const by = (id) => document.getElementById(id);
export const labelOf = (id) => (String(id).trim() ? plain(id) : JSON.stringify(id));
export const named = (title) => (title.name?.trim() ? plain(title.name) : `title ${labelOf(title.title_id)}`);
export const titleLink = (title, ...more) =>
  el("a", { href: `#/title/${encodeURIComponent(title.title_id)}`, class: "name" }, named(title), ...more);
export const count = (number, one, many) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

// A bar whose length is a score between low and high; the figure stands beside it for everyone.
export function meter(score, low, high) {
  const share = high > low ? Math.max(0.04, (score - low) / (high - low)) : 1;
  const bar = el("i");
  bar.style.width = `${(100 * share).toFixed(1)}%`;
  return el("span", { class: "meter", "aria-hidden": "true" }, bar);
}

export function night(releaseId) {
  const found = /^(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})/.exec(releaseId ?? "");
  return found ? `${found[1]}-${found[2]}-${found[3]} ${found[4]}:${found[5]}` : String(releaseId);
}
