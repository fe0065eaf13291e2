// Which view is shown, as the fragment of the address says: #view=watch&channel=…
// A fragment is never sent to a server nor told to another page, so a link may hold
// the key. The page itself writes the key there only into links that somebody copies.

import { byId } from "./dom.js";
import { pageHost, pageScheme } from "./connection.js";

/**
 * A link to a view, with everything in it: {scheme, host, channel, key} and more. From the
 * operator's listener it leads to the server that has the stream.
 */
export function linkTo(path, given) {
  const { scheme, host, ...rest } = given;
  if (!pageHost) return `${scheme === "wss" ? "https" : "http"}://${host}${path}#${new URLSearchParams(rest)}`;
  const link = new URLSearchParams();
  if (host && host !== location.host) link.set("host", host);
  if (scheme && scheme !== pageScheme()) link.set("scheme", scheme);
  for (const [name, value] of Object.entries(rest)) {
    if (value) link.set(name, value);
  }
  return `${location.origin}${path}#${link}`;
}

export class Router {
  #views;
  #shown; // name of the view that is shown

  /**
   * names: of the views, in the order of their tabs. views: {name: {shown, hidden}},
   * looked at only when one is shown.
   */
  constructor(names, views) {
    this.names = names;
    this.#views = views;
    names.forEach((name, i) => {
      const tab = byId(`tab-${name}`);
      tab.addEventListener("click", () => this.choose(name));
      tab.addEventListener("keydown", (event) => {
        const to = { ArrowLeft: i - 1, ArrowRight: i + 1, Home: 0, End: -1 }[event.key];
        if (to === undefined) return;
        event.preventDefault();
        const next = names.at(to % names.length);
        this.choose(next);
        byId(`tab-${next}`).focus();
      });
    });
  }

  get view() {
    return this.#shown;
  }

  /** What the fragment says. */
  params() {
    return new URLSearchParams(location.hash.slice(1));
  }

  /** Shows a view and writes its name into the address. */
  choose(name) {
    const params = this.params();
    params.set("view", name);
    if (String(params) !== location.hash.slice(1)) history.pushState(null, "", `#${params}`);
    this.show(name);
  }

  /** Shows a view. */
  show(name) {
    if (name === this.#shown) return;
    const before = this.#shown;
    this.#shown = name;
    document.body.dataset.view = name;
    for (const view of this.names) {
      const tab = byId(`tab-${view}`);
      tab.setAttribute("aria-selected", String(view === name));
      tab.tabIndex = view === name ? 0 : -1;
      byId(view).hidden = view !== name;
    }
    if (before) this.#views[before].hidden?.();
    this.#views[name].shown?.(this.params());
  }
}
