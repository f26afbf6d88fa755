// The first view: how everything does now, and how the last hour was.

import { baseUrl } from "./api.js";
import { failed, hourCharts } from "./charts.js";
import { byId, Keyed, make, mark, write } from "./dom.js";
import { count, listed, millis, minuteOf, NONE, share, some, span, sum } from "./format.js";
import { badge, meter, row, Rows } from "./tables.js";
import { isSilent, lead, providerState, why } from "./words.js";

const GRAVE = { bad: 0, busy: 1, good: 2, quiet: 3 };
/** How long a provider that has gone is still shown, seconds, and how many. */
const GONE_SECONDS = 600;
const GONE_MAX = 50;

export const modelLink = (id) => `#/models/${encodeURIComponent(id)}`;

/** Draws the overview again and again. */
export class OverviewView {
  #charts = hourCharts(byId("charts"));
  #figures = new Keyed(byId("figures"), figure);
  #minutes = new Keyed(byId("minute-rows"), minuteRow);
  #reasons = new Rows("why", reason, 6);
  #models = new Rows("models", modelRow);
  #providers = new Rows("providers", providerRow);
  #known = null;
  #gone = new Map();

  constructor() {
    byId("minutes").addEventListener("toggle", () => this.#table());
  }

  /** Show what was told; gives what is news, to be said aloud. */
  show(told, models) {
    this.told = told;
    const all = [...models.values()];
    write(byId("lead"), lead(all, told));
    this.#figures.show(figuresOf(told, all), (one) => one.name);
    this.#reasons.show(reasonsOf(all, told.silent_seconds));
    this.#charts(told.hour.minutes);
    this.#table();
    this.#models.show(all.map((model) => ({ ...model, words: `${model.id} ${model.state[0]}` })));
    const news = this.#follow(told);
    this.#providers.show(this.#providersOf(told));
    write(byId("join"), `inferline-provider --base-url ${baseUrl().replace(/\/v1$/, "")} --backend http://127.0.0.1:8001`);
    return news;
  }

  #table() {
    if (!byId("minutes").open || !this.told) return;
    this.#minutes.show(this.told.hour.minutes.toReversed(), (minute) => minute.start);
  }

  /** Remember who was there, to say who no longer is. */
  #follow(told) {
    const news = [];
    const live = new Map(told.providers.map((provider) => [provider.id, provider]));
    for (const [id, provider] of this.#known ?? []) {
      if (live.has(id)) continue;
      const left = !isSilent(provider, told.silent_seconds);
      this.#gone.set(id, { ...provider, gone: told.at, left });
      news.push(left ? `Provider ${id} left.` : `Provider ${id} is gone.`);
    }
    for (const id of live.keys()) {
      if (this.#known && !this.#known.has(id)) news.push(`Provider ${id} joined.`);
      this.#gone.delete(id);
    }
    for (const [id, provider] of this.#gone) {
      if (told.at - provider.gone > GONE_SECONDS || this.#gone.size > GONE_MAX) this.#gone.delete(id);
    }
    this.#known = live;
    return news;
  }

  #providersOf(told) {
    const shown = [...this.#gone.values(), ...told.providers].map((provider) => {
      const state = providerState(provider, told.silent_seconds);
      const heard = provider.seen_seconds_ago + (provider.gone ? told.at - provider.gone : 0);
      return { ...provider, state, heard, words: `${provider.id} ${state[0]} ${provider.models.join(" ")}` };
    });
    return shown.sort((one, two) => GRAVE[one.state[1]] === 0 || GRAVE[two.state[1]] === 0
      ? GRAVE[one.state[1]] - GRAVE[two.state[1]] : 0);
  }
}

function figuresOf(told, models) {
  const hour = told.hour.total;
  const bad = failed(hour);
  const ages = models.map((model) => model.oldest ?? 0);
  const slots = sum(told.providers.filter((one) => one.healthy).map((one) => one.slots));
  const waiting = sum(models.map((model) => model.waiting));
  return [
    { name: "Requests", value: count(hour.requests), more: "in the last hour" },
    { name: "Failed", value: share(bad, hour.requests), more: bad ? mostCommon(hour.errors) : "no errors", grave: bad ? "bad" : "" },
    { name: "First token", value: millis(hour.first_token_ms.p50), more: `95 % within ${millis(hour.first_token_ms.p95)}` },
    { name: "Answer", value: millis(hour.total_ms.p50), more: `95 % within ${millis(hour.total_ms.p95)}` },
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

const PROVIDER_COLUMNS = [["Provider", "name"], ["State"], ["Slots in use"], ["Models", "name"], ["Time a task", "number"],
  ["Last heard of", "number"], ["Version", "version"]];

function providerRow({ id }) {
  const [node, cells] = row(PROVIDER_COLUMNS);
  const [state, setState] = badge();
  const [slots, setSlots] = meter();
  const note = make("span", { className: "note" });
  cells[0].append(id);
  cells[1].append(state, note);
  cells[2].append(slots);
  return {
    node,
    update(provider) {
      setState(provider.state);
      write(note, provider.state[2]);
      setSlots(provider.running, provider.slots);
      write(cells[3], listed(provider.models) || NONE);
      mark(cells[3], "title", provider.models.length > 3 ? some(provider.models.length, "model") : "");
      write(cells[4], provider.service_seconds > 0 ? span(provider.service_seconds) : NONE);
      write(cells[5], `${span(provider.heard)} ago`);
      write(cells[6], provider.version);
      node.classList.toggle("gone", Boolean(provider.gone));
    },
  };
}

function minuteRow() {
  const cells = Array.from({ length: 6 }, (_, at) => make(at ? "td" : "th", at ? { className: "number" } : { scope: "row" }));
  return {
    node: make("tr", {}, ...cells),
    update(minute) {
      const told = [minuteOf(minute.start), count(minute.requests), count(failed(minute)), ...[
        "first_token_ms", "total_ms", "queue_ms"].map((name) => millis(minute[name].p50))];
      told.forEach((text, at) => write(cells[at], text));
    },
  };
}
