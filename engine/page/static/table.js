// A table that is filled again and again: rows stay who they are, so that the focus, a
// selection and a half-pressed button survive. All that is shown is set as text.

import { el } from "./dom.js";

const ARMED_MS = 4000; // how long a first press waits for the second

/**
 * A table of rows. columns: [{name, title, text(row), tone(row), number}], all but the
 * first two optional with a default; a column with make(row) puts an element there
 * instead, once per row. key(row) tells who a row is. empty: the words without rows.
 */
export class Table {
  #columns;
  #key;
  #rows = new Map(); // key → {tr, cells, row}
  #body = el("tbody");
  #empty;

  constructor({ id, label, columns, key, empty }) {
    this.#columns = columns;
    this.#key = key;
    this.#empty = el("p", { class: "soft table-empty" }, empty);
    const head = el("tr", {}, ...columns.map((column) => el("th", { scope: "col", class: column.number && "number" }, column.title)));
    this.element = el("div", { class: "table-frame", tabindex: "0", role: "region", "aria-label": label },
      el("table", { id, class: "table" }, el("thead", {}, head), this.#body), this.#empty);
  }

  /** Shows these rows, in this order. */
  update(rows) {
    const gone = new Set(this.#rows.keys());
    rows.forEach((row, place) => {
      const key = String(this.#key(row));
      gone.delete(key);
      const known = this.#rows.get(key) ?? this.#add(key, row);
      known.row = row;
      this.#fill(known);
      if (this.#body.children[place] !== known.tr) this.#body.insertBefore(known.tr, this.#body.children[place] ?? null);
    });
    for (const key of gone) {
      this.#rows.get(key).tr.remove();
      this.#rows.delete(key);
    }
    this.#empty.hidden = rows.length > 0;
    this.element.firstChild.hidden = rows.length === 0;
  }

  #add(key, row) {
    const known = { tr: el("tr", { "data-key": key }), cells: [], row };
    for (const column of this.#columns) {
      const cell = el("td", { "data-name": column.name, "data-title": column.title, class: column.number && "number" });
      if (column.make) cell.append(column.make(() => known.row));
      known.cells.push(cell);
    }
    known.tr.append(...known.cells);
    this.#rows.set(key, known);
    return known;
  }

  #fill({ cells, row }) {
    this.#columns.forEach((column, i) => {
      if (column.make) return;
      const text = column.text ? column.text(row) : String(row[column.name]);
      if (cells[i].textContent !== text) cells[i].textContent = text;
      const tone = column.tone?.(row);
      if (tone) cells[i].dataset.tone = tone;
      else delete cells[i].dataset.tone;
    });
  }
}

/**
 * A button that wants two presses: the first asks, the second within four seconds does.
 * question replaces its text in between. A double click, or a key that is held down, is
 * one press.
 */
export function twoPress(text, question, label, act) {
  let timer = 0;
  const disarm = () => {
    clearTimeout(timer);
    timer = 0;
    button.textContent = text;
    button.classList.remove("armed");
    button.setAttribute("aria-label", label());
  };
  const button = el("button", {
    type: "button",
    class: "button two-press",
    keydown: (event) => event.repeat && event.preventDefault(),
    click: (event) => {
      if (timer && event.detail > 1) return;
      if (timer) {
        disarm();
        act(button);
        return;
      }
      button.textContent = question;
      button.setAttribute("aria-label", `${label()}: press again to confirm`);
      button.classList.add("armed");
      timer = setTimeout(disarm, ARMED_MS);
    },
    blur: () => timer && disarm(),
  });
  disarm();
  return button;
}
