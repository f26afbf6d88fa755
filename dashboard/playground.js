// The playground: one question through the line, its answer as it comes, and where the time went.

import { ask } from "./api.js";
import { byId, Keyed, make, write } from "./dom.js";
import { millis, share, some } from "./format.js";
import { why } from "./words.js";

/** How much of an answer is shown, characters: the page stays quick. */
const SHOWN_MAX = 200_000;

export class PlaygroundView {
  #models = new Keyed(byId("ask-model"), ({ id }) => ({ node: make("option", { value: id }, id), update() {} }));
  #wanted = "";
  #stopping = null;
  #waitsFor = "";

  constructor() {
    byId("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      if (!this.#stopping) this.#send();
    });
    byId("stop").addEventListener("click", () => this.#stopping?.abort());
    byId("prompt").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("ask").requestSubmit();
    });
  }

  /** Choose the model that a link named. */
  choose(id) {
    this.#wanted = id;
    this.#apply();
  }

  show(models, silentSeconds) {
    const waited = models.get(this.#waitsFor);
    write(byId("ask-why"), waited ? why(waited, silentSeconds) : "");
    const before = byId("ask-model").value;
    this.#models.show([...models.values()], (model) => model.id);
    const served = [...models.values()].find((model) => model.serving.length);
    if (before && models.has(before)) byId("ask-model").value = before;
    else if (served) byId("ask-model").value = served.id;
    this.#apply();
  }

  #apply() {
    const chooser = byId("ask-model");
    if (!this.#wanted || ![...chooser.options].some((option) => option.value === this.#wanted)) return;
    chooser.value = this.#wanted;
    this.#wanted = "";
  }

  /** It no longer waits. */
  #begins() {
    this.#waitsFor = "";
    write(byId("ask-why"), "");
  }

  async #send() {
    const model = byId("ask-model").value;
    if (!model) return write(byId("ask-status"), "No model is known yet.");
    this.#stopping = new AbortController();
    byId("stop").hidden = false;
    byId("send").disabled = true;
    byId("answer-part").hidden = true;
    write(byId("ask-status"), "Waiting for a provider…");
    this.#waitsFor = model;
    const answer = new Answer(() => this.#begins());
    try {
      await answer.run(bodyOf(model), this.#stopping.signal);
      write(byId("ask-status"), answer.ended());
    } catch (error) {
      const stopped = error.name === "AbortError";
      const id = error.requestId ?? answer.requestId;
      write(byId("ask-status"), stopped ? "Stopped." : `${error.message}${id ? ` (${id})` : ""}`);
    } finally {
      answer.flush();
      this.#begins();
      this.#stopping = null;
      byId("stop").hidden = true;
      byId("send").disabled = false;
    }
  }
}

function bodyOf(model) {
  const told = {
    model,
    messages: [{ role: "user", content: byId("prompt").value }],
    stream: true,
    stream_options: { include_usage: true },
    max_tokens: Number(byId("ask-tokens").value) || 256,
  };
  const tier = byId("ask-tier").value;
  return tier === "default" ? told : { ...told, service_tier: tier };
}

/** One answer as it comes. */
class Answer {
  #text = document.createTextNode("");
  #gathered = "";
  #length = 0;
  #due = 0;
  #sent = performance.now();
  #first = null;
  #end = null;
  #timings = null;
  #usage = null;
  #headers = null;
  #begins;

  constructor(begins) {
    this.#begins = begins;
  }

  get requestId() {
    return this.#headers?.get("x-request-id");
  }

  /** Ask, and show the answer until its end. Raises ApiError, NoAnswer or AbortError. */
  async run(body, signal) {
    const response = await ask("chat/completions", {
      method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" }, signal,
    });
    this.#headers = response.headers;
    this.#begins();
    byId("answer").replaceChildren(this.#text);
    byId("answer-part").hidden = false;
    hideTimes();
    write(byId("ask-status"), "Answering…");
    for await (const data of events(response.body)) {
      if (data === "[DONE]") break;
      this.#take(read(data));
    }
    this.#end = performance.now();
  }

  #take(event) {
    if (event.error) throw new Error(event.error.message ?? "The answer broke off.");
    const delta = event.choices?.[0]?.delta;
    const text = delta?.content || delta?.reasoning_content || "";
    this.#timings = event.timings ?? this.#timings;
    this.#usage = event.usage ?? this.#usage;
    if (!text) return;
    this.#first ??= performance.now();
    this.#gathered += text;
    this.#due ||= requestAnimationFrame(() => this.flush());
  }

  /** Put what has gathered onto the page. */
  flush() {
    cancelAnimationFrame(this.#due);
    this.#due = 0;
    const room = SHOWN_MAX - this.#length;
    this.#text.appendData(this.#gathered.slice(0, room));
    this.#length += this.#gathered.length;
    this.#gathered = "";
  }

  /** Show where the time went; gives what is said of the end. */
  ended() {
    const total = this.#end - this.#sent;
    const times = this.#times(total);
    showTimes(times.parts, total);
    write(byId("went-note"), times.note);
    const who = this.#headers.get("x-inferline-provider");
    const attempt = Number(this.#headers.get("x-inferline-attempt"));
    const parts = [who && `Answered by ${who}${attempt > 1 ? `, at attempt ${attempt}` : ""}`, `request ${this.requestId}`];
    write(byId("went-who"), `${parts.filter(Boolean).join(", ")}.`);
    const tokens = this.#usage?.completion_tokens;
    return `Done in ${millis(total)}${tokens ? `: ${some(tokens, "token")}${this.#speed(tokens)}` : ""}.`;
  }

  #speed(tokens) {
    const seconds = (this.#timings?.predicted_ms ?? this.#end - this.#first) / 1000;
    return this.#first !== null && tokens > 1 && seconds > 0 ? `, ${(tokens / seconds).toFixed(seconds < 1 ? 0 : 1)} a second` : "";
  }

  #times(total) {
    const isTold = this.#headers.has("x-inferline-provider");
    const queue = isTold ? Math.min(total, Number(this.#headers.get("x-inferline-queue-ms"))) : 0;
    const name = isTold ? [["queue", "Queue", queue]] : [];
    const { prompt_ms: prompt, predicted_ms: predicted } = this.#timings ?? {};
    if (prompt !== undefined && predicted !== undefined) {
      const delivery = Math.max(0, total - queue - prompt - predicted);
      return {
        parts: [...name, ["first", "First token", prompt], ["generation", "Generation", predicted], ["delivery", "Delivery", delivery]],
        note: "First token and generation as the LLM server timed them; delivery is the rest: the way there and back.",
      };
    }
    const first = (this.#first ?? this.#end) - this.#sent;
    return {
      parts: [...name, ["first", isTold ? "First token" : "Queue and first token", first - queue],
        ["generation", "Generation and delivery", total - first]],
      note: "The LLM server did not tell its own times, so generation and delivery are told together, as this page saw them.",
    };
  }
}

function hideTimes() {
  for (const id of ["went", "went-key"]) byId(id).replaceChildren();
  for (const id of ["went-note", "went-who"]) write(byId(id), "");
}

function showTimes(parts, total) {
  const bars = parts.map(([kind, , ms]) => {
    const bar = make("span", { className: `went-${kind}` });
    bar.style.setProperty("flex-grow", String(Math.max(0, ms)));
    return bar;
  });
  byId("went").replaceChildren(...bars);
  byId("went-key").replaceChildren(...parts.map(([kind, name, ms]) => make("div", { className: `key-${kind}` },
    make("dt", {}, name), make("dd", {}, `${millis(Math.max(0, ms))} `, make("span", { className: "small" }, share(Math.max(0, ms), total))))));
}

function read(data) {
  try {
    return JSON.parse(data);
  } catch {
    throw new Error("The LLM server sent something that is no JSON.");
  }
}

/** The data of each server-sent event. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    rest += value ?? "";
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const text of lines) if (text.startsWith("data:")) yield text.slice(5).trim();
    if (done) return;
  }
}
