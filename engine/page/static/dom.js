// What the views are made of: elements, icons, numbers as text, a status line.

export const byId = (id) => document.getElementById(id);

/**
 * Makes an element. Attributes are set as given; true sets an empty one, false and
 * undefined none; a function is a listener for the event of that name. Children are
 * nodes or texts; undefined ones are left out.
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== undefined));
  return element;
}

const ICONS = {
  play: "M8 5.5v13l11-6.5z",
  pause: "M7 5h3.5v14H7zM13.5 5H17v14h-3.5z",
  stop: "M6 6h12v12H6z",
  sound: "M4 9v6h4l5 4.5v-15L8 9zM15.5 8.2a5 5 0 0 1 0 7.6M18 5.5a9 9 0 0 1 0 13",
  mute: "M4 9v6h4l5 4.5v-15L8 9zM16 9.5l5 5M21 9.5l-5 5",
  full: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5",
  leave: "M9 4v5H4M20 9h-5V4M15 20v-5h5M4 15h5v5",
  inset: "M3 5h18v14H3zM12 12h7v5h-7z",
  link: "M10 14a4 4 0 0 0 5.7 0l3.5-3.5a4 4 0 0 0-5.7-5.7L12.3 6M14 10a4 4 0 0 0-5.7 0l-3.5 3.5a4 4 0 0 0 5.7 5.7l1.2-1.2",
  code: "M8.5 7 3.5 12l5 5M15.5 7l5 5-5 5",
  air: "M9 9a4.2 4.2 0 0 0 0 6M15 9a4.2 4.2 0 0 1 0 6M6 6a8.5 8.5 0 0 0 0 12M18 6a8.5 8.5 0 0 1 0 12M12 11.9v.2",
  camera: "M3 7h12v10H3zM15 10.5l6-3v9l-6-3",
  screen: "M3 5h18v11H3zM8.5 20h7M12 16v4",
  file: "M6 3h8l4 4v14H6zM14 3v4h4M10.5 11v6l4.5-3z",
  clock: "M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17zM12 7.5V12l3 2",
  eye: "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12zM12 9a3 3 0 1 1 0 6 3 3 0 0 1 0-6z",
};

/** A picture of one line, 24 × 24, in the colour of the text; hidden from readers. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("icon", `icon-${name}`);
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** A field with its label. options, for a select: pairs of value and text. */
export function choice(id, label, options, chosen) {
  const select = el("select", { id });
  for (const [value, text] of options) select.add(new Option(text, value, value === chosen, value === chosen));
  return el("div", { class: "field" }, el("label", { for: id }, label), select);
}

/** A list of numbers: pairs of id and name, filled in by show. */
export function numbers(...items) {
  return el("dl", { class: "numbers" }, ...items.map(([id, name, wide]) => el("div", { class: wide && "wide" }, el("dt", {}, name), el("dd", { id }, "–"))));
}

/** Shows a value: as a text for people, and as it is in data-value. */
export function show(id, value, text = String(value)) {
  const place = byId(id);
  place.dataset.value = String(value);
  place.textContent = text;
}

export function sizeText(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(1)} kB`;
  if (bytes < 1e9) return `${(bytes / 1e6).toFixed(1)} MB`;
  return `${(bytes / 1e9).toFixed(2)} GB`;
}

export function rateText(bitsPerSecond) {
  return bitsPerSecond < 1e6 ? `${(bitsPerSecond / 1e3).toFixed(0)} kbit/s` : `${(bitsPerSecond / 1e6).toFixed(2)} Mbit/s`;
}

export const secondsText = (seconds) => `${seconds.toFixed(1)} s`;

/** Bits a second over the last few calls of next(bytes so far). */
export class Rate {
  #points = [];

  next(bytes) {
    const now = performance.now();
    this.#points.push({ now, bytes });
    while (this.#points.length > 8) this.#points.shift();
    const first = this.#points[0];
    return now > first.now ? ((bytes - first.bytes) * 8000) / (now - first.now) : 0;
  }
}

/**
 * The state of a view: a word in data-state of its section, and the status line, which
 * is read out as it changes. Its line stands in the view as `line`.
 */
export class ViewState {
  #root;
  #label;
  #log;

  constructor(root, label, log) {
    this.#root = root;
    this.#label = label;
    this.#log = log;
    this.line = el("p", { class: "status", id: `${root.id}-status`, role: "status" }, "Not connected.");
    root.dataset.state = "idle";
  }

  get state() {
    return this.#root.dataset.state;
  }

  /** tone: "plain", "good", "warn" or "bad". */
  set(state, words, tone = "plain", logged = true) {
    this.#root.dataset.state = state;
    if (this.line.textContent === words && this.line.dataset.tone === tone) return;
    this.line.textContent = words;
    this.line.dataset.tone = tone;
    if (logged) this.#log(`${this.#label}: ${words}`, tone);
  }
}
