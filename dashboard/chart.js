// One chart of an hour, drawn by hand: sixty minutes across, stretched to the width there is.

import { draw, make, mark, write } from "./dom.js";
import { minuteOf } from "./format.js";

const MINUTES = 60;
const HEIGHT = 100;

/** A title, what it shows now, the drawing, its scale, and what a pointer is on. */
class Chart {
  constructor(parent, { title, keys }) {
    this.title = title;
    this.now = make("span", { className: "chart-now" });
    this.top = make("span", { className: "chart-top" });
    this.from = make("span");
    this.svg = draw("svg", { viewBox: `0 0 ${MINUTES} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": title });
    this.cursor = draw("line", { class: "cursor", y1: 0, y2: HEIGHT, "vector-effect": "non-scaling-stroke", visibility: "hidden" });
    const legend = make("span", { className: "legend" }, ...keys.map(([kind, text]) => make("span", { className: `key-${kind}` }, text)));
    const plot = make("div", { className: "plot" }, this.top, this.svg);
    const figure = make("figure", { className: "chart" },
      make("figcaption", {}, make("strong", {}, title), this.now), plot,
      make("div", { className: "axis" }, this.from, legend, make("span", {}, "now")));
    for (const kind of ["pointermove", "pointerdown"]) plot.addEventListener(kind, (event) => this.#point(event));
    plot.addEventListener("pointerleave", () => this.#leave());
    parent.append(figure);
  }

  /** Show sixty minutes. */
  show(minutes) {
    this.minutes = minutes;
    const most = this.scale(Math.max(0, ...minutes.map((minute) => this.most(minute))));
    write(this.top, this.name(most));
    write(this.from, minutes.length ? minuteOf(minutes[0].start) : "");
    this.plot(minutes, most);
    mark(this.svg, "aria-label", `${this.title}: ${this.summary(minutes)}`);
    this.#say();
  }

  #point(event) {
    const box = this.svg.getBoundingClientRect();
    const place = Math.floor(((event.clientX - box.left) / box.width) * MINUTES);
    this.at = Math.min(MINUTES - 1, Math.max(0, place));
    for (const end of ["x1", "x2"]) mark(this.cursor, end, String(this.at + 0.5));
    mark(this.cursor, "visibility", "visible");
    this.#say();
  }

  #leave() {
    this.at = undefined;
    mark(this.cursor, "visibility", "hidden");
    this.#say();
  }

  #say() {
    const minute = this.minutes?.[this.at];
    if (minute) write(this.now, `${minuteOf(minute.start)}: ${this.tell(minute)}`);
    else if (this.minutes) write(this.now, this.summary(this.minutes));
  }
}

/** Counts a minute as bars: `parts` are [kind, name, value of a minute], the lowest first. */
export class Bars extends Chart {
  constructor(parent, { title, parts, name, words }) {
    super(parent, { title, keys: parts });
    this.values = parts.map(([, , value]) => value);
    this.name = name;
    this.words = words;
    this.bars = Array.from({ length: MINUTES }, (_, at) => parts.map(([kind]) =>
      draw("rect", { class: `bar-${kind}`, x: at + 0.12, width: 0.76, y: HEIGHT, height: 0 })));
    this.svg.append(...this.bars.flat(), this.cursor);
  }

  scale = (most) => Math.max(4, Math.ceil(rounded(most)));

  most = (minute) => this.values.reduce((all, value) => all + (value(minute) ?? 0), 0);

  plot(minutes, most) {
    minutes.forEach((minute, at) => {
      let top = HEIGHT;
      this.values.forEach((value, part) => {
        const height = ((value(minute) ?? 0) / most) * HEIGHT;
        top -= height;
        mark(this.bars[at][part], "y", top.toFixed(2));
        mark(this.bars[at][part], "height", height.toFixed(2));
      });
    });
  }

  summary(minutes) {
    const told = this.values.map((value) => minutes.map(value).filter((found) => found !== undefined));
    return this.words(told.map((found) => (found.length ? found.reduce((all, one) => all + one, 0) : undefined)), " in the hour");
  }

  tell = (minute) => this.words(this.values.map((value) => value(minute)), "");
}

/** Times as lines: `parts` are [kind, name, milliseconds of a minute or null], the foremost first. */
export class Lines extends Chart {
  constructor(parent, { title, parts, name, words, none }) {
    super(parent, { title, keys: parts });
    this.values = parts.map(([, , value]) => (minute) => value(minute) ?? null);
    this.name = name;
    this.words = words;
    this.none = none;
    this.lines = parts.map(([kind]) => draw("path", { class: `line-${kind}`, "vector-effect": "non-scaling-stroke" }));
    this.svg.append(...this.lines.toReversed(), this.cursor);
  }

  scale = (most) => rounded(most) || 100;

  most = (minute) => Math.max(0, ...this.values.map((value) => value(minute) ?? 0));

  plot(minutes, most) {
    this.lines.forEach((line, at) => mark(line, "d", path(minutes.map(this.values[at]), most)));
  }

  summary(minutes) {
    const newest = minutes.findLast((minute) => this.values[0](minute) !== null);
    return newest ? `${this.name(this.values[0](newest))} at ${minuteOf(newest.start)}` : this.none(minutes);
  }

  tell(minute) {
    const told = this.values.map((value) => value(minute));
    return told[0] === null ? "none" : this.words(told);
  }
}

/** A line through the minutes that have a value; one that stands alone is as wide as its minute. */
function path(values, most) {
  let text = "";
  values.forEach((value, at) => {
    if (value === null) return;
    const height = (HEIGHT - (value / most) * HEIGHT).toFixed(2);
    const [before, after] = [values[at - 1] ?? null, values[at + 1] ?? null];
    if (before === null && after === null) text += `M${at + 0.1} ${height}H${at + 0.9}`;
    else text += `${before === null ? "M" : "L"}${at + 0.5} ${height}`;
  });
  return text;
}

/** A round number that nothing exceeds; 0 for nothing. */
function rounded(most) {
  if (most <= 0) return 0;
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= most);
}
