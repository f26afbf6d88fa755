// The first view: how everything does now, and how the last hour was.

import { baseUrl } from "./api.js";
import { byId, Keyed, make, mark, write } from "./dom.js";
import { about, count, millis, NONE, rate, share, some, span, sum } from "./format.js";
import { failed, Hour } from "./hour.js";
import { Providers } from "./providers.js";
import { badge, meter, row, Rows } from "./tables.js";
import { lead, why } from "./words.js";

export const modelLink = (id) => `#/models/${encodeURIComponent(id)}`;

/** Draws the overview again and again. */
export class OverviewView {
  #figures = new Keyed(byId("figures"), figure);
  #hour = new Hour(byId("hour"));
  #reasons = new Rows("why", reason, 6);
  #models = new Rows("models", modelRow);
  #providers = new Providers();

  /** Show what was told; gives what is news, to be said aloud. */
  show(told, models) {
    const all = [...models.values()];
    write(byId("lead"), lead(all, told));
    this.#figures.show(figuresOf(told, all), (one) => one.name);
    this.#reasons.show(reasonsOf(all, told.silent_seconds));
    this.#hour.show(told.hour.minutes);
    this.#models.show(all.map((model) => ({ ...model, words: `${model.id} ${model.state[0]}` })));
    write(byId("join"), `inferline-provider --base-url ${baseUrl().replace(/\/v1$/, "")} --backend http://127.0.0.1:8001`);
    return this.#providers.show(told);
  }
}

function figuresOf(told, models) {
  const hour = told.hour.total;
  const bad = failed(hour);
  const ages = models.map((model) => model.oldest ?? 0);
  const isTold = hour.output_tokens !== undefined;
  const slots = sum(told.providers.filter((one) => one.healthy).map((one) => one.slots));
  const waiting = sum(models.map((model) => model.waiting));
  return [
    { name: "Requests", value: count(hour.requests), more: "in the last hour" },
    { name: "Failed", value: share(bad, hour.requests), more: bad ? mostCommon(hour.errors) : "no errors", grave: bad ? "bad" : "" },
    { name: "First token", value: millis(hour.first_token_ms.p50), more: `95 % within ${millis(hour.first_token_ms.p95)}` },
    { name: "Answer", value: millis(hour.total_ms.p50), more: `95 % within ${millis(hour.total_ms.p95)}` },
    { name: "Tokens", value: about(hour.output_tokens), more: isTold ? `output, ${about(hour.input_tokens)} input` : "not told" },
    { name: "Tokens a second", value: rate(isTold ? sum(told.providers.map((one) => one.tokens_per_second)) : null), more: "output, now" },
    { name: "Running", value: count(sum(models.map((model) => model.running))), more: `of ${some(slots, "slot")}` },
    { name: "Waiting", value: count(waiting), more: waiting ? `the oldest ${span(Math.max(0, ...ages))}` : "nothing", grave: waiting ? "busy" : "" },
  ];
}

function mostCommon(errors) {
  const [code, times] = Object.entries(errors).sort((one, two) => two[1] - one[1])[0];
  return `${count(times)} × ${code}`;
}

function figure({ name }) {
  const value = make("dd", { className: "figure-value" });
  const more = make("dd", { className: "figure-more" });
  const node = make("div", {}, make("dt", {}, name), value, more);
  return {
    node,
    update(told) {
      write(value, told.value);
      write(more, told.more);
      mark(node, "data-grave", told.grave ?? "");
    },
  };
}

/** The models that have something to say, the gravest first; or one line that says that none has. */
function reasonsOf(models, silentSeconds) {
  const told = models.filter((model) => model.waiting > 0 || model.state[1] === "bad")
    .sort((one, two) => two.waiting - one.waiting)
    .map((model) => ({ id: model.id, grave: model.state[1], text: why(model, silentSeconds) }));
  if (told.length || !models.length) return told;
  const free = sum(models.map((model) => model.slots - model.used)) > 0;
  return [{ id: "", grave: "good", text: free ? "Nothing waits: a new request is taken at once." : "Nothing waits, but all slots are in use." }];
}

function reason({ id }) {
  const link = make("a", { href: modelLink(id) }, id);
  const text = make("span");
  const node = make("li", {}, ...(id ? [link, " "] : []), text);
  return {
    node,
    update(told) {
      write(text, told.text);
      mark(node, "data-grave", told.grave);
    },
  };
}

const MODEL_COLUMNS = [["Model", "name"], ["State"], ["Providers", "number"], ["Slots in use"], ["Waiting, priority", "number"],
  ["Waiting, default", "number"], ["Waiting, flex", "number"], ["Oldest", "number"], ["Requests/h", "number"],
  ["First token", "number"], ["Answer", "number"]];

function modelRow({ id }) {
  const [node, cells] = row(MODEL_COLUMNS);
  const [state, setState] = badge();
  const [slots, setSlots] = meter();
  cells[0].append(make("a", { href: modelLink(id) }, id));
  cells[1].append(state);
  cells[3].append(slots);
  return {
    node,
    update(model) {
      setState(model.state);
      setSlots(model.used, model.slots);
      write(cells[2], count(model.serving.length));
      ["priority", "default", "flex"].forEach((tier, at) => waits(cells[4 + at], model.tiers[tier]?.waiting));
      write(cells[7], span(model.oldest));
      write(cells[8], count(model.figures?.requests ?? 0));
      write(cells[9], millis(model.figures?.first_token_ms.p50));
      write(cells[10], millis(model.figures?.total_ms.p50));
    },
  };
}

function waits(cell, waiting) {
  write(cell, waiting === undefined ? NONE : count(waiting));
  cell.classList.toggle("some", Boolean(waiting));
}
