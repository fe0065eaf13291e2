// The fields that say which channel of which server: the same for watching and for
// publishing. Nothing of them is kept anywhere but in the page and its fragment.

import { byId } from "./dom.js";
import { hostProblem, idProblem } from "./link.js";

const checks = {
  host: (value) => hostProblem(value),
  channel: (value) => idProblem("Channel", value),
  key: (value) => idProblem("Key", value),
};

const NAMES = ["host", "channel", "key"];
const SCHEMES = ["ws", "wss"];

/** The scheme of streams of the server that the page came from. */
export const pageScheme = () => (location.protocol === "https:" ? "wss" : "ws");

/** The server of the page's streams, host and port; "" on the operator's listener, which has none. */
export const pageHost = document.documentElement.dataset.streams === "elsewhere" ? "" : location.host;

export class Connection {
  /** submit is called when the form is sent, with Enter. */
  constructor(submit) {
    byId("host").value = pageHost;
    byId("scheme").value = pageScheme();
    for (const id of NAMES) {
      byId(id).addEventListener("input", () => {
        if (byId(id).getAttribute("aria-invalid") === "true") this.#check(id);
      });
    }
    byId("connection").addEventListener("submit", (event) => {
      event.preventDefault();
      submit();
    });
    byId("show-key").addEventListener("click", (event) => {
      const shown = byId("key").type === "password";
      byId("key").type = shown ? "text" : "password";
      event.currentTarget.setAttribute("aria-pressed", String(shown));
    });
  }

  /** The fields as they are typed: {scheme, host, channel, key}. */
  fields() {
    const value = (id) => byId(id).value.trim();
    return { scheme: value("scheme"), host: value("host"), channel: value("channel"), key: value("key") };
  }

  /** The fields if they are right; else undefined, and the page shows which are not. */
  checked() {
    const wrong = NAMES.filter((id) => this.#check(id) !== "");
    if (wrong.length === 0) return this.fields();
    byId(wrong[0]).focus();
    return undefined;
  }

  /** Fills in what is there of {scheme, host, channel, key}. */
  fill(given) {
    for (const id of NAMES) {
      if (given[id] !== undefined) byId(id).value = given[id];
    }
    if (SCHEMES.includes(given.scheme)) byId("scheme").value = given.scheme;
  }

  show(shown) {
    byId("connection-card").hidden = !shown;
  }

  #check(id) {
    const problem = checks[id](byId(id).value.trim());
    const place = byId(`${id}-problem`);
    place.textContent = problem;
    place.hidden = problem === "";
    byId(id).setAttribute("aria-invalid", String(problem !== ""));
    return problem;
  }
}
