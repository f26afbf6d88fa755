// Rows that people scan: sorted, found by a word, and only so many until more are asked for.

import { byId, Keyed, make, mark, write } from "./dom.js";
import { count } from "./format.js";

const SHOWN_FIRST = 25;

/** A table (or list) of the page with its filter, its count and its button for the rest. */
export class Rows {
  #name; #keyed; #all = false; #items = []; #first;

  constructor(name, create, first = SHOWN_FIRST) {
    this.#name = name;
    this.#first = first;
    this.#keyed = new Keyed(byId(name), create);
    this.filter = byId(`${name}-filter`);
    this.filter?.addEventListener("input", () => this.#draw());
    byId(`${name}-more`).addEventListener("click", () => {
      this.#all = !this.#all;
      this.#draw();
    });
  }

  show(items) {
    this.#items = items;
    this.#draw();
  }

  #draw() {
    const word = (this.filter?.value ?? "").trim().toLowerCase();
    const found = word ? this.#items.filter((item) => item.words.toLowerCase().includes(word)) : this.#items;
    const shown = this.#all ? found : found.slice(0, this.#first);
    this.#keyed.show(shown, (item) => item.id);
    const more = byId(`${this.#name}-more`);
    more.hidden = found.length <= this.#first;
    write(more, this.#all ? `Show ${this.#first} only` : `Show all ${count(found.length)}`);
    const counted = byId(`${this.#name}-count`);
    if (counted) write(counted, word ? `${count(found.length)} of ${count(this.#items.length)}` : count(this.#items.length));
    const none = byId(`${this.#name}-none`);
    if (none) none.hidden = this.#items.length > 0;
    const label = byId(`${this.#name}-filter-label`);
    if (label) label.hidden = this.#items.length <= 8;
  }
}

/** A row of cells; `columns` are [label, class] and the first cell heads the row. */
export function row(columns) {
  const cells = columns.map(([label, kind], at) => make(at ? "td" : "th",
    { className: kind ?? "", role: at ? "cell" : "rowheader", "data-label": label, ...(at ? {} : { scope: "row" }) }));
  return [make("tr", { role: "row" }, ...cells), cells];
}

/** A state: a mark whose shape differs with how grave it is, and the word. */
export function badge() {
  const word = make("span");
  const node = make("span", { className: "badge" }, word);
  return [node, ([name, grave]) => {
    write(word, name);
    mark(node, "data-grave", grave);
  }];
}

/** Slots in use of all there are: a bar and the figures. */
export function meter() {
  const fill = make("span", { className: "meter-fill" });
  const text = make("span", { className: "meter-text" });
  const node = make("span", { className: "meter" }, make("span", { className: "meter-bar", "aria-hidden": "true" }, fill), text);
  return [node, (used, all) => {
    fill.style.setProperty("--share", String(all ? Math.min(1, used / all) : 0));
    write(text, `${count(used)} of ${count(all)}`);
  }];
}
