// Small words for the document. Text only ever becomes text: nothing here takes markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/** Make an element; `told` are its properties, and attributes where the name has a dash or is listed. */
export function make(tag, told = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(told)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** Make an element of a drawing. */
export function draw(tag, told = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(told)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const written = new WeakMap();

/** Write text, and touch the document only where it differs from what was written last. */
export function write(node, text) {
  const wanted = String(text);
  if (written.get(node) === wanted) return;
  written.set(node, wanted);
  node.textContent = wanted;
}

/** Set an attribute, if it differs. */
export function mark(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/** Children that follow a list: each item keeps its node, and only what changed is touched. */
export class Keyed {
  #parent; #create; #known = new Map();

  /** `create(item)` gives `{node, update(item)}`. */
  constructor(parent, create) {
    this.#parent = parent;
    this.#create = create;
  }

  show(items, keyOf) {
    const wanted = new Map(items.map((item) => [keyOf(item), item]));
    for (const [key, row] of this.#known) {
      if (!wanted.has(key)) {
        row.node.remove();
        this.#known.delete(key);
      }
    }
    let next = this.#parent.firstElementChild;
    for (const [key, item] of wanted) {
      let row = this.#known.get(key);
      if (!row) this.#known.set(key, (row = this.#create(item)));
      row.update(item);
      if (row.node === next) next = next.nextElementSibling;
      else this.#parent.insertBefore(row.node, next);
    }
  }
}
