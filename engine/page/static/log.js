// What happened, in words, newest last. It is not read out: the states of the views are.

import { byId, el } from "./dom.js";

const LINES = 200;

/** Adds a line. tone: "plain", "good", "warn" or "bad". */
export function log(words, tone = "plain") {
  const now = new Date();
  const list = byId("log");
  const atEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 8;
  list.append(el("li", { "data-tone": tone }, el("time", { datetime: now.toISOString() }, now.toTimeString().slice(0, 8)), el("span", {}, words)));
  while (list.children.length > LINES) list.firstElementChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

export function wireLog() {
  byId("log-clear").addEventListener("click", () => byId("log").replaceChildren());
}
