// The map of the titles: wander by dragging and zooming, point or press arrow keys to read names, choose to compare.
import { by, el, labelOf, plain } from "./parts.js";
import { painter } from "./painter.js";
import { view } from "./view.js";

export function titleMap(data, goTo) {
  data.name = data.name.map((name, i) => (name.trim() ? plain(name) : `title ${labelOf(data.title_id[i])}`));
  data.legend = data.legend.map((genre) => plain(genre, 60));
  const canvas = by("map");
  const tip = by("tip");
  const place = new Map(data.title_id.map((id, i) => [String(id), i]));
  const state = { data, hidden: new Set(), near: -1, chosen: -1, now: [], before: [] };
  const seen = view(canvas, draw);
  const paint = painter(canvas, state, seen);

  function draw() {
    paint();
    say();
  }

  function say() {
    const i = state.near;
    tip.style.display = i < 0 ? "none" : "block";
    if (i < 0) return;
    tip.replaceChildren(el("bdi", {}, data.name[i]), " · ", el("bdi", {}, data.legend[data.genre[i]]));
    const [x, y] = seen.at(data.x[i], data.y[i]);
    tip.style.left = `${Math.max(4, Math.min(x + 12, canvas.clientWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.max(4, y < 60 ? y + 14 : y - tip.offsetHeight - 12)}px`;
  }

  const open = (i) => !state.hidden.has(data.genre[i]);

  function nearest(x, y, within, fits = () => true) {
    let best = within * within;
    let found = -1;
    for (let i = 0; i < data.x.length; i++) {
      if (!open(i)) continue;
      const [px, py] = seen.at(data.x[i], data.y[i]);
      const far = (px - x) ** 2 + (py - y) ** 2;
      if (far < best && fits(px - x, py - y, i)) [best, found] = [far, i];
    }
    return found;
  }

  // The nearest title within 45° of an arrow's direction.
  function step(dx, dy) {
    const from = state.near >= 0 ? state.near : Math.max(state.chosen, 0);
    const [x, y] = seen.at(data.x[from], data.y[from]);
    const ahead = (px, py, i) => i !== from && px * dx + py * dy > 0.7 * Math.hypot(px, py) && Math.hypot(px, py) > 1;
    const found = nearest(x, y, 4000, ahead);
    if (found >= 0) state.near = found;
    seen.show(data.x[state.near], data.y[state.near]);
    draw();
  }

  const keys = {
    ArrowLeft: () => step(-1, 0), ArrowRight: () => step(1, 0), ArrowUp: () => step(0, -1), ArrowDown: () => step(0, 1),
    "+": () => seen.zoom(1.5), "=": () => seen.zoom(1.5), "-": () => seen.zoom(1 / 1.5), 0: () => seen.whole(),
    Enter: () => state.near >= 0 && goTo(data.title_id[state.near]),
    Escape: () => ((state.near = -1), draw()),
  };
  canvas.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (seen.dragging()) return;
    const box = canvas.getBoundingClientRect();
    const found = nearest(event.clientX - box.left, event.clientY - box.top, 18);
    canvas.style.cursor = found < 0 ? "grab" : "pointer";
    if (found === state.near) return;
    state.near = found;
    draw();
  });
  canvas.addEventListener("pointerleave", () => ((state.near = -1), draw()));
  canvas.addEventListener("click", (event) => {
    if (seen.dragged()) return;
    const box = canvas.getBoundingClientRect();
    const found = nearest(event.clientX - box.left, event.clientY - box.top, 18);
    if (found >= 0) goTo(data.title_id[found]);
  });
  by("closer").addEventListener("click", () => seen.zoom(1.6));
  by("farther").addEventListener("click", () => seen.zoom(1 / 1.6));
  by("whole").addEventListener("click", () => seen.whole());

  legend(state, paint.colour, draw);
  canvas.setAttribute("aria-label", `Map of ${data.x.length} titles. Arrow keys go from title to title, Enter shows the neighbours, plus and minus change the size, 0 shows the whole map.`);
  draw();

  return {
    choose(found) {
      const at = (title) => place.get(String(title.title_id)) ?? -1;
      state.chosen = at(found.title);
      state.now = found.now.map(at).filter((i) => i >= 0);
      state.before = found.before.map(at).filter((i) => i >= 0);
      if (state.chosen >= 0) seen.show(data.x[state.chosen], data.y[state.chosen]);
      draw();
    },
  };
}

function legend({ data, hidden }, colour, draw) {
  const marks = [];
  data.legend.forEach((genre, at) => {
    if (!data.genre.includes(at)) return;
    const mark = el("i");
    marks.push([mark, at]);
    const button = el("button", { type: "button", "aria-pressed": "true", onclick: () => {
      hidden.has(at) ? hidden.delete(at) : hidden.add(at);
      button.setAttribute("aria-pressed", String(!hidden.has(at)));
      draw();
    } }, mark, genre);
    by("legend").append(button);
  });
  const fill = () => marks.forEach(([mark, at]) => (mark.style.background = colour(at)));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (fill(), draw()));
  fill();
}
