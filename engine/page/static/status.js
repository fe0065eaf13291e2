// The Status view: what the server does now.

import { el } from "./dom.js";

/** Fills the view's section; see main.js for what a view is. */
export function mount(root) {
  root.append(el("div", { class: "card" }, el("p", {}, "Nothing is shown here yet.")));
  return {};
}
