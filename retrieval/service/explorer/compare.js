// Neighbours of one title, now and in the release before, side by side, each with what speaks for it.
import { by, count, el, meter, named, night, plain, titleLink } from "./parts.js";

export function showComparison(found) {
  const scores = [...found.now, ...found.before].map((one) => one.score);
  const range = [Math.min(...scores), Math.max(...scores)];
  const newer = found.now.filter((one) => one.other_rank === null).length;
  const kept = found.now.length - newer;
  by("answer-title").replaceChildren("Beside ", el("em", {}, named(found.title)));
  const parts = [
    el("p", { class: "lead facts" }, aboutTitle(found)),
    el("div", { class: "sides" },
      side("now", `Now, ${night(found.release_id)}`, found.now, found, range),
      found.before_release_id
        ? side("before", `Before, ${night(found.before_release_id)}`, found.before, found, range)
        : el("div", { class: "side before" }, el("h3", {}, "Before"), el("p", { class: "note" }, "There is no earlier release to compare with."))),
  ];
  if (found.before.length) {
    const words = newer === 0 ? "The same neighbours in both." : `${kept} of ${found.now.length} neighbours stayed, ${newer} came.`;
    const spaces = found.before_space_id === found.space_id ? "" : " The two releases are in different spaces: scores cannot be compared, neighbours can.";
    parts.splice(1, 0, el("p", { class: "note", id: "stayed" }, words + spaces));
  }
  by("compare").replaceChildren(...parts);
  pairUp();
}

function aboutTitle(found) {
  const title = found.title;
  const words = [plain(title.kind, 60), title.launched, title.genres.map((genre) => plain(genre, 60)).join(", "), count(found.members, "member has it", "members have it")];
  return words.filter(Boolean).join(" · ");
}

function side(name, heading, neighbours, found, range) {
  const rows = neighbours.map((one, place) => row(one, place, name, found, range));
  const nothing = el("p", { class: "note" }, name === "before" ? "This title was not there yet." : "It has no neighbours.");
  return el("div", { class: `side ${name}` }, el("h3", {}, heading), rows.length ? el("ol", { class: "list" }, rows) : nothing);
}

function row(one, place, name, found, [low, high]) {
  return el("li", { "data-title": one.title_id },
    el("span", { class: "rank", "aria-hidden": "true" }, String(place + 1)),
    el("div", {},
      el("div", { class: "line" }, titleLink(one), moved(one, place, name), el("span", { class: "score" }, one.score.toFixed(3))),
      meter(one.score, low, high),
      el("div", { class: "why" },
        one.genres.map((genre, at) => el("span", { class: at < one.shared ? "genre shared" : "genre" }, plain(genre, 60))),
        el("small", {}, together(one, found)))));
}

function together(one, found) {
  if (one.both === null) return "not in the live release";
  return `${one.both.toLocaleString("en")} of ${found.members.toLocaleString("en")} have both`;
}

// What happened to a neighbour between the releases, in words for readers and a sign for the eye.
function moved(one, place, name) {
  if (one.other_rank === null) return el("span", { class: name === "now" ? "tag" : "tag hold" }, name === "now" ? "new" : "gone");
  if (name === "before") return null;
  const steps = one.other_rank - (place + 1);
  if (steps === 0) return null;
  const words = `${steps > 0 ? "up" : "down"} ${Math.abs(steps)}`;
  return el("span", { class: "step", title: `${words} since the release before` }, el("span", { "aria-hidden": "true" }, `${steps > 0 ? "▲" : "▼"} ${Math.abs(steps)}`), el("span", { class: "hidden" }, words));
}

// Pointing at a title on one side, or going there with the keyboard, marks it on the other.
function pairUp() {
  const rows = [...document.querySelectorAll("#compare li[data-title]")];
  const mark = (row, on) => rows.filter((other) => other.dataset.title === row.dataset.title).forEach((other) => other.classList.toggle("paired", on));
  for (const row of rows) {
    for (const event of ["pointerenter", "focusin"]) row.addEventListener(event, () => mark(row, true));
    for (const event of ["pointerleave", "focusout"]) row.addEventListener(event, () => mark(row, false));
  }
}
