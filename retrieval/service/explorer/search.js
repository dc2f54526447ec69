// The search box: a combobox as the ARIA practices describe it, with the most played titles first.
import { ask, tell } from "./api.js";
import { by, el, named, plain } from "./parts.js";

export function search(choose) {
  const box = by("ask");
  const list = by("choices");
  let asked = null;
  let titles = [];
  let at = -1;

  async function suggest() {
    asked?.abort();
    asked = new AbortController();
    try {
      const found = await ask(`v1/explorer/titles?limit=10&q=${encodeURIComponent(box.value)}`, asked.signal);
      titles = found.titles;
      show();
      tell(null);
    } catch (error) {
      tell(error);
    }
  }

  function show() {
    at = -1;
    list.replaceChildren(...titles.map((title, place) =>
      el("li", { role: "option", id: `choice-${place}`, "aria-selected": "false", onpointerdown: (event) => { event.preventDefault(); take(place); } },
        el("span", {}, named(title)),
        el("small", {}, [title.launched, title.genres.slice(0, 3).map((genre) => plain(genre, 60)).join(", ")].filter(Boolean).join(" · ")))));
    if (!titles.length) list.append(el("li", { class: "none", role: "option", "aria-disabled": "true", "aria-selected": "false" }, "no title has that name or id"));
    open(true);
    mark();
  }

  function open(wanted) {
    list.hidden = !wanted;
    box.setAttribute("aria-expanded", String(wanted));
    if (!wanted) box.removeAttribute("aria-activedescendant");
  }

  function mark() {
    [...list.children].forEach((entry, place) => entry.setAttribute("aria-selected", String(place === at)));
    if (at < 0) return box.removeAttribute("aria-activedescendant");
    box.setAttribute("aria-activedescendant", `choice-${at}`);
    list.children[at].scrollIntoView({ block: "nearest" });
  }

  function take(place) {
    const title = titles[place];
    if (!title) return;
    box.value = named(title);
    open(false);
    choose(title.title_id);
  }

  const keys = {
    ArrowDown: () => (list.hidden ? suggest() : (at = Math.min(at + 1, titles.length - 1), mark())),
    ArrowUp: () => (at = Math.max(at - 1, 0), mark()),
    Escape: () => (list.hidden ? (box.value = "") : open(false)),
    Enter: async () => {
      if (list.hidden || !titles.length) await suggest();
      take(Math.max(at, 0));
    },
  };
  box.addEventListener("keydown", (event) => {
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  box.addEventListener("input", suggest);
  box.addEventListener("focus", () => box.select());
  box.addEventListener("blur", () => open(false));
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || /^(INPUT|TEXTAREA)$/.test(document.activeElement?.tagName) || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    box.focus();
  });
  return (title) => { if (document.activeElement !== box) box.value = named(title); };
}
