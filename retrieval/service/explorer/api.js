// Asking the service: one function, which brings the token if there is one and tells problems in words.
import { by, plain } from "./parts.js";

const KEPT = "samespace-token";

export class Refused extends Error {}

// An id as a part of a path. Browsers resolve . and .. in it, escaped or not, so they would ask for something else.
export function part(id) {
  if (/^\.{1,2}$/.test(String(id))) throw new Refused(`A browser cannot ask for the id ${id}. Try: curl --path-as-is`);
  return encodeURIComponent(id);
}

export async function ask(path, signal) {
  const token = sessionStorage.getItem(KEPT);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, { headers, signal });
  if (answer.status === 401) {
    await tokenGiven();
    return ask(path, signal);
  }
  const body = await answer.json();
  if (answer.ok) return body;
  throw new Refused([body.what, body.expected && `Expected: ${body.expected}`, body.fix && `Try: ${body.fix}`].filter(Boolean).join(". "));
}

// One dialog for however many requests were refused at once.
let waiting = null;
function tokenGiven() {
  waiting ??= new Promise((resolve) => {
    const gate = by("gate");
    gate.addEventListener("close", () => {
      sessionStorage.setItem(KEPT, by("token").value);
      waiting = null;
      resolve();
    }, { once: true });
    gate.showModal();
  });
  return waiting;
}

export function tell(error) {
  const place = by("problem");
  if (error?.name === "AbortError") return;
  place.hidden = !error;
  place.textContent = error ? plain(error instanceof Refused ? error.message : `The service does not answer: ${error.message}`, 600) : "";
}
