// Who serves: each provider as it last told of itself, and those that went while one looked.

import { byId, make, mark, write } from "./dom.js";
import { listed, NONE, rate, some, span } from "./format.js";
import { badge, meter, row, Rows } from "./tables.js";
import { isSilent, providerState } from "./words.js";

/** How long a provider that has gone is still shown, seconds, and how many. */
const GONE_SECONDS = 600;
const GONE_MAX = 50;
const COLUMNS = [["Provider", "name"], ["State"], ["Slots in use"], ["Models", "name"], ["Tokens a second", "number"],
  ["Time a task", "number"], ["Last heard of", "number"], ["Version", "version"]];

/** Draws the table of providers. */
export class Providers {
  #rows = new Rows("providers", providerRow);
  #known = null;
  #gone = new Map();

  /** Show what was told; gives what is news, to be said aloud. */
  show(told) {
    const news = this.#follow(told);
    const shown = [...this.#gone.values(), ...told.providers].map((provider) => {
      const state = providerState(provider, told.silent_seconds);
      const heard = provider.seen_seconds_ago + (provider.gone ? told.at - provider.gone : 0);
      return { ...provider, state, heard, words: `${provider.id} ${state[0]} ${provider.models.join(" ")}` };
    });
    const isBad = (provider) => provider.state[1] === "bad";
    this.#rows.show([...shown.filter(isBad), ...shown.filter((provider) => !isBad(provider))]);
    return news;
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
}

function providerRow({ id }) {
  const [node, cells] = row(COLUMNS);
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
      write(cells[4], provider.gone ? NONE : rate(provider.tokens_per_second));
      write(cells[5], provider.service_seconds > 0 ? span(provider.service_seconds) : NONE);
      write(cells[6], `${span(provider.heard)} ago`);
      write(cells[7], provider.version);
      node.classList.toggle("gone", Boolean(provider.gone));
    },
  };
}
