// Charts of the last hour, drawn by hand: sixty minutes across, stretched to the width there is.

import { draw, make, mark, write } from "./dom.js";
import { count, millis, minuteOf } from "./format.js";

const MINUTES = 60;
const HEIGHT = 100;

/** One chart: a title, what it shows now, the drawing, its scale, and what a pointer is on. */
class Chart {
  constructor(parent, { title, unit, keys }) {
    this.title = title;
    this.unit = unit;
    this.now = make("span", { className: "chart-now" });
    this.top = make("span", { className: "chart-top" });
    this.from = make("span");
    this.svg = draw("svg", { viewBox: `0 0 ${MINUTES} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": title });
    this.cursor = draw("line", { class: "cursor", y1: 0, y2: HEIGHT, "vector-effect": "non-scaling-stroke", visibility: "hidden" });
    const legend = make("span", { className: "legend" }, ...keys.map(([kind, text]) => make("span", { className: kind }, text)));
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
    const most = scale(Math.max(0, ...minutes.map((minute) => this.most(minute))), this.unit === "count");
    write(this.top, this.name(most));
    write(this.from, minutes.length ? minuteOf(minutes[0].start) : "");
    this.plot(minutes, most);
    mark(this.svg, "aria-label", `${this.title}. ${this.summary(minutes)}`);
    if (this.at === undefined) write(this.now, this.summary(minutes));
    else write(this.now, this.tell(minutes[this.at]));
  }

  #point(event) {
    const box = this.svg.getBoundingClientRect();
    const place = Math.floor(((event.clientX - box.left) / box.width) * MINUTES);
    this.at = Math.min(MINUTES - 1, Math.max(0, place));
    const minute = this.minutes?.[this.at];
    if (!minute) return;
    for (const end of ["x1", "x2"]) mark(this.cursor, end, String(this.at + 0.5));
    mark(this.cursor, "visibility", "visible");
    write(this.now, this.tell(minute));
  }

  #leave() {
    this.at = undefined;
    mark(this.cursor, "visibility", "hidden");
    if (this.minutes) write(this.now, this.summary(this.minutes));
  }

  name(value) {
    return this.unit === "count" ? count(value) : millis(value);
  }
}

/** Requests a minute, those that failed on top. */
class Requests extends Chart {
  constructor(parent) {
    super(parent, { title: "Requests", unit: "count", keys: [["key-one", "answered"], ["key-bad", "failed"]] });
    this.bars = Array.from({ length: MINUTES }, (_, at) => ["bar-one", "bar-bad"].map((kind) =>
      draw("rect", { class: kind, x: at + 0.12, width: 0.76, y: HEIGHT, height: 0 })));
    this.svg.append(...this.bars.flat(), this.cursor);
  }

  most = (minute) => minute.requests;

  plot(minutes, most) {
    minutes.forEach((minute, at) => {
      const bad = (failed(minute) / most) * HEIGHT;
      const good = (minute.requests / most) * HEIGHT - bad;
      place(this.bars[at][0], HEIGHT - good, good);
      place(this.bars[at][1], HEIGHT - good - bad, bad);
    });
  }

  summary(minutes) {
    const requests = minutes.reduce((all, minute) => all + minute.requests, 0);
    const bad = minutes.reduce((all, minute) => all + failed(minute), 0);
    return `${count(requests)} in the hour${bad ? `, ${count(bad)} failed` : ""}`;
  }

  tell(minute) {
    const bad = failed(minute);
    return `${minuteOf(minute.start)}: ${count(minute.requests)}${bad ? `, ${count(bad)} failed` : ""}`;
  }
}

/** A time: its median and the one that 95 % did not exceed. */
class Times extends Chart {
  constructor(parent, title, measure) {
    super(parent, { title, unit: "ms", keys: [["key-one", "median"], ["key-two", "95 %"]] });
    this.measure = measure;
    this.lines = [["line-two", "p95"], ["line-one", "p50"]].map(([kind, name]) =>
      [draw("path", { class: kind, "vector-effect": "non-scaling-stroke" }), name]);
    this.svg.append(...this.lines.map(([line]) => line), this.cursor);
  }

  most = (minute) => minute[this.measure].p95 ?? 0;

  plot(minutes, most) {
    for (const [line, name] of this.lines) {
      mark(line, "d", path(minutes.map((minute) => minute[this.measure][name]), most));
    }
  }

  summary(minutes) {
    const newest = minutes.findLast((minute) => minute[this.measure].p50 !== null);
    return newest ? `${millis(newest[this.measure].p50)} at ${minuteOf(newest.start)}` : "none in the hour";
  }

  tell(minute) {
    const { p50, p95 } = minute[this.measure];
    return p50 === null ? `${minuteOf(minute.start)}: none` : `${minuteOf(minute.start)}: ${millis(p50)}, 95 % ${millis(p95)}`;
  }
}

export const failed = (figures) => Object.values(figures.errors).reduce((all, one) => all + one, 0);

function place(bar, y, height) {
  mark(bar, "y", y.toFixed(2));
  mark(bar, "height", Math.max(0, height).toFixed(2));
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

/** A round number that nothing exceeds. */
function scale(most, integers) {
  if (most <= 0) return integers ? 4 : 100;
  const power = 10 ** Math.floor(Math.log10(most));
  const steps = [1, 1.5, 2, 3, 4, 5, 6, 8, 10];
  const found = steps.map((step) => step * power).find((step) => step >= most);
  return integers ? Math.max(4, Math.ceil(found)) : found;
}

/** The charts of the overview, in `parent`. */
export function hourCharts(parent) {
  const charts = [
    new Requests(parent),
    new Times(parent, "Time to the first token", "first_token_ms"),
    new Times(parent, "Time to the whole answer", "total_ms"),
    new Times(parent, "Time in the queue", "queue_ms"),
  ];
  return (minutes) => charts.forEach((chart) => chart.show(minutes));
}
