// The page: what the address names is shown. #/title/ID compares neighbours, #/member/ID shows a member.
import { ask, part, tell } from "./api.js";
import { showComparison } from "./compare.js";
import { titleMap } from "./map.js";
import { memberForm, showMember, someMembers } from "./member.js";
import { by, count, named, night } from "./parts.js";
import { search } from "./search.js";

const goTo = (id) => { location.hash = `#/title/${encodeURIComponent(id)}`; };
const typed = search(goTo);
let map = null;
let shown = null;

async function showTitle(id) {
  try {
    const found = await ask(`v1/explorer/titles/${part(id)}/compare?k=12`);
    shown = found;
    showComparison(found);
    typed(found.title);
    map?.choose(found);
    document.title = `${named(found.title)} · samespace`;
    tell(null);
  } catch (error) {
    tell(error);
  }
}

function route() {
  const [, kind, escaped] = /^#\/(title|member)\/(.*)$/.exec(location.hash) ?? [];
  if (!kind) return null;
  try {
    const id = decodeURIComponent(escaped);
    return kind === "title" ? showTitle(id) : showMember(id);
  } catch (error) {
    return tell(error);
  }
}

async function start() {
  const release = await ask("v1/release");
  by("live").textContent = `live ${night(release.release_id)} · space ${release.space_id} · ${count(release.titles, "title", "titles")} · ${count(release.members, "member", "members")}`;
  by("light").classList.add("on");
  memberForm();
  const [points, first] = await Promise.all([ask("v1/explorer/map"), ask("v1/explorer/titles?limit=1"), someMembers()]);
  map = titleMap(points, goTo);
  if (shown) map.choose(shown);
  if (!location.hash.startsWith("#/title/") && first.titles.length) await showTitle(first.titles[0].title_id);
}

addEventListener("hashchange", route);
route();
start().catch(tell);
