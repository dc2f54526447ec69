// A member: the history, newest first, beside the candidates of the live release.
import { ask, part, tell } from "./api.js";
import { by, count, el, labelOf, meter, titleLink } from "./parts.js";

const K = 15;

export async function someMembers() {
  const { members } = await ask("v1/explorer/members");
  by("some").replaceChildren(...members.map((one) =>
    el("a", { href: `#/member/${encodeURIComponent(one.member_id)}`, class: "chip", "data-id": one.member_id, title: count(one.length, "title", "titles") }, labelOf(one.member_id))));
}

export function memberForm() {
  by("who").addEventListener("submit", (event) => {
    event.preventDefault();
    const id = by("member-id").value.trim();
    if (id) location.hash = `#/member/${encodeURIComponent(id)}`;
  });
}

export async function showMember(id) {
  by("member-id").value = id;
  try {
    const name = part(id);
    const [history, best] = await Promise.all([
      ask(`v1/explorer/members/${name}/history?limit=${K + 5}`),
      ask(`v1/members/${name}/candidates?k=${K}`),
    ]);
    by("member").replaceChildren(el("div", { class: "sides" }, past(history), next(best.titles)));
    for (const chip of by("some").children) chip.setAttribute("aria-current", String(chip.dataset.id === String(id)));
    tell(null);
  } catch (error) {
    by("member").replaceChildren();
    tell(error);
  }
}

function past(history) {
  const rows = history.seen.map((one) =>
    el("li", {}, el("span", { class: "rank" }), el("div", { class: "line" }, titleLink(one),
      el("small", {}, [one.at?.slice(0, 10), one.value === null ? "" : `value ${one.value}`].filter(Boolean).join(" · ")))));
  const scope = history.length > history.seen.length ? `the last ${history.seen.length} of ${history.length.toLocaleString("en")}` : count(history.length, "title", "titles");
  return el("div", { class: "side before" }, el("h3", {}, "History", el("small", {}, scope)), el("ul", { class: "list" }, rows));
}

function next(titles) {
  const scores = titles.map((one) => one.score);
  const range = [Math.min(...scores), Math.max(...scores)];
  const rows = titles.map((one, place) =>
    el("li", {}, el("span", { class: "rank", "aria-hidden": "true" }, String(place + 1)),
      el("div", {}, el("div", { class: "line" }, titleLink(one), el("span", { class: "score" }, one.score.toFixed(2))), meter(one.score, ...range))));
  return el("div", { class: "side now" }, el("h3", {}, "Candidates now", el("small", {}, "seen titles left out")), el("ol", { class: "list" }, rows));
}
