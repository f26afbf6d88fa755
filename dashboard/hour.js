// The last hour by minute: as charts, and as a table for who does not see them.

import { Bars, Lines } from "./chart.js";
import { Keyed, make, write } from "./dom.js";
import { about, count, millis, minuteOf, NONE, span } from "./format.js";

/** How many failed, of the figures of any time. */
export const failed = (figures) => Object.values(figures.errors).reduce((all, one) => all + one, 0);

const COLUMNS = [
  ["Minute", (minute) => minuteOf(minute.start)],
  ["Requests", (minute) => count(minute.requests)],
  ["Failed", (minute) => count(failed(minute))],
  ["Output tokens", (minute) => count(minute.output_tokens)],
  ["Input tokens", (minute) => count(minute.input_tokens)],
  ["First token, median", (minute) => millis(minute.first_token_ms.p50)],
  ["Answer, median", (minute) => millis(minute.total_ms.p50)],
  ["In the queue, median", (minute) => millis(minute.queue_ms.p50)],
  ["Oldest that waited", (minute) => span(minute.oldest_seconds)],
];

/** Draws an hour in `parent`, again and again. */
export class Hour {
  #charts; #rows; #details; #minutes = [];

  constructor(parent) {
    const [charts, body] = [make("div", { className: "charts" }), make("tbody")];
    this.#charts = chartsIn(charts);
    this.#rows = new Keyed(body, minuteRow);
    this.#details = make("details", { className: "minutes" }, make("summary", {}, "The same as a table"), table(body));
    this.#details.addEventListener("toggle", () => this.#table());
    parent.append(charts, this.#details);
  }

  /** Show sixty minutes. */
  show(minutes) {
    this.#minutes = minutes;
    for (const chart of this.#charts) chart.show(minutes);
    this.#table();
  }

  #table() {
    if (this.#details.open) this.#rows.show(this.#minutes.toReversed(), (minute) => minute.start);
  }
}

function chartsIn(parent) {
  return [
    new Bars(parent, {
      title: "Requests", name: count,
      parts: [["one", "answered", (minute) => minute.requests - failed(minute)], ["bad", "failed", failed]],
      words: ([good = 0, bad = 0], when) => `${count(good + bad)}${when}${bad ? `, ${count(bad)} failed` : ""}`,
    }),
    new Bars(parent, {
      title: "Tokens", name: about,
      parts: [["one", "output", (minute) => minute.output_tokens], ["two", "input", (minute) => minute.input_tokens]],
      words: ([output, input], when) => (output === undefined ? NONE : `${about(output)} output, ${about(input)} input${when}`),
    }),
    times(parent, "Time to the first token", "first_token_ms"),
    times(parent, "Time to the whole answer", "total_ms"),
    times(parent, "Time in the queue", "queue_ms"),
    new Lines(parent, {
      title: "Queue age", name: millis, words: ([age]) => millis(age),
      parts: [["one", "the oldest that waited", age]],
      none: (minutes) => (minutes.some((minute) => minute.oldest_seconds === null) ? "none waited" : NONE),
    }),
  ];
}

/** Milliseconds; null when none waited, undefined when that is not told. */
const age = ({ oldest_seconds: seconds }) => (seconds ? seconds * 1000 : seconds);

function times(parent, title, measure) {
  return new Lines(parent, {
    title, name: millis, none: () => "none in the hour",
    parts: [["one", "median", (minute) => minute[measure].p50], ["two", "95 %", (minute) => minute[measure].p95]],
    words: ([median, most]) => `${millis(median)}, 95 % ${millis(most)}`,
  });
}

function table(body) {
  const head = make("tr", {}, ...COLUMNS.map(([name]) => make("th", { scope: "col" }, name)));
  return make("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "The last hour by minute" },
    make("table", { className: "plain" }, make("caption", {}, "Each minute, the newest first"), make("thead", {}, head), body));
}

function minuteRow() {
  const cells = COLUMNS.map((_, at) => make(at ? "td" : "th", at ? { className: "number" } : { scope: "row" }));
  return {
    node: make("tr", {}, ...cells),
    update: (minute) => COLUMNS.forEach(([, told], at) => write(cells[at], told(minute))),
  };
}
