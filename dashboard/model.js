// One model: how it does, who serves it, and how to ask it from a program.

import { baseUrl, hasKey } from "./api.js";
import { byId, Keyed, make, write } from "./dom.js";
import { count, NONE, rate, some, span } from "./format.js";
import { failed, Hour } from "./hour.js";
import { providerState, why } from "./words.js";

const QUESTION = "What is a queue?";
const MEASURES = [["Queue", "queue_ms"], ["First token", "first_token_ms"], ["Answer", "total_ms"]];

/** Draws the page of one model. */
export class ModelView {
  #tiers = new Keyed(byId("tier-rows"), () => cells(4));
  #times = new Keyed(byId("time-rows"), () => cells(4));
  #providers = new Keyed(byId("model-providers"), line);
  #snippets = new Keyed(byId("snippets"), snippet);
  #minutes = new Hour(byId("by-minute"));
  #id = "";

  show(id, told, model) {
    if (!model || id !== this.#id) byId("by-minute").hidden = true;
    this.#id = id;
    write(byId("model-title"), id);
    byId("model-try").setAttribute("href", `#/playground/${encodeURIComponent(id)}`);
    if (!model) {
      write(byId("model-state"), "There is no model of this name.");
      write(byId("model-why"), "");
      return;
    }
    write(byId("model-state"), `${count(model.running)} running, ${count(model.waiting)} waiting, ${count(model.used)} of ${count(model.slots)} slots in use.`);
    write(byId("model-why"), why(model, told.silent_seconds));
    this.#tiers.show(Object.values(model.tiers).map((queue) => ({
      id: queue.tier, texts: [queue.tier, count(queue.waiting), span(queue.oldest_seconds), count(queue.running)],
    })), (one) => one.id);
    this.#providers.show(providersOf(model, told), (one) => one.id);
    this.#figures(model.figures);
    this.#snippets.show(snippets(id, baseUrl(), hasKey()), (one) => one.id);
  }

  /** Show the hour of a model by minute; null when nobody tells it. */
  showHour(id, hour) {
    if (id !== this.#id) return;
    byId("by-minute").hidden = !hour;
    if (hour) this.#minutes.show(hour.minutes);
  }

  #figures(figures) {
    const bad = figures ? Object.entries(figures.errors).map(([code, times]) => `${count(times)} × ${code}`).join(", ") : "";
    write(byId("model-hour"), figures
      ? `${some(figures.requests, "request")}, ${bad ? `${count(failed(figures))} failed: ${bad}` : "none failed"}. Tokens: ${count(figures.output_tokens)} output, ${count(figures.input_tokens)} input.`
      : "Nobody asked for it.");
    this.#times.show(MEASURES.map(([name, measure]) => ({
      id: name, texts: [name, ...["p50", "p95", "p99"].map((part) => seconds(figures?.[measure][part]))],
    })), (one) => one.id);
  }
}

const seconds = (ms) => (ms === null || ms === undefined ? NONE : (ms / 1000).toFixed(ms < 995 ? 2 : 1));

function providersOf(model, told) {
  const all = [...model.serving, ...model.ill];
  if (!all.length) return [{ id: "", text: "Nobody at the moment." }];
  return all.map((one) => {
    const [state, , note] = providerState(one, told.silent_seconds);
    const does = `${count(one.running)} of ${count(one.slots)} slots in use, ${rate(one.tokens_per_second)} tokens a second`;
    return { id: one.id, text: `${one.id}: ${state}, ${does}. ${note}` };
  });
}

function line() {
  const node = make("li");
  return { node, update: (told) => write(node, told.text) };
}

function cells(number) {
  const found = Array.from({ length: number }, (_, at) => make(at ? "td" : "th", at ? { className: "number" } : { scope: "row" }));
  return { node: make("tr", {}, ...found), update: (told) => told.texts.forEach((text, at) => write(found[at], text)) };
}

/** The same question as a command and as two programs, for the model and the address there are. */
export function snippets(model, base, keyed) {
  const body = { model, messages: [{ role: "user", content: QUESTION }], stream: true };
  const [name, place, question] = [model, base, QUESTION].map((text) => JSON.stringify(text));
  const shown = keyed ? ` \\\n  -H "authorization: Bearer $INFERLINE_API_KEY"` : "";
  const python = keyed ? 'os.environ["INFERLINE_API_KEY"]' : '"any"';
  const node = keyed ? "process.env.INFERLINE_API_KEY" : '"any"';
  return [
    {
      id: "curl",
      text: `curl -N ${quoted(`${base}/chat/completions`)}${shown} \\\n  -H 'content-type: application/json' \\\n  -d ${quoted(JSON.stringify(body))}`,
    },
    {
      id: "Python",
      text: `${keyed ? "import os\n\n" : ""}from openai import OpenAI\n\nclient = OpenAI(base_url=${place}, api_key=${python})\n` +
        `answer = client.chat.completions.create(\n    model=${name},\n    messages=[{"role": "user", "content": ${question}}],\n)\n` +
        "print(answer.choices[0].message.content)",
    },
    {
      id: "Node",
      text: `import OpenAI from "openai";\n\nconst client = new OpenAI({ baseURL: ${place}, apiKey: ${node} });\n` +
        `const answer = await client.chat.completions.create({\n  model: ${name},\n  messages: [{ role: "user", content: ${question} }],\n});\n` +
        "console.log(answer.choices[0].message.content);",
    },
  ];
}

const quoted = (text) => (/^[\w./:@+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

function snippet({ id }) {
  const code = make("code");
  const said = make("span", { className: "small", role: "status" });
  const copy = make("button", { type: "button", className: "quiet", "aria-label": `Copy ${id}` }, "Copy");
  copy.addEventListener("click", async () => {
    write(said, (await copied(code)) ? "Copied" : "Selected; copy it with the keyboard");
    setTimeout(() => write(said, ""), 3000);
  });
  const pre = make("pre", { tabIndex: 0, role: "region", "aria-label": `${id} snippet` }, code);
  const node = make("div", { className: "snippet" }, make("div", { className: "head" }, make("h3", {}, id), make("span", {}, said, " ", copy)), pre);
  return { node, update: (told) => write(code, told.text) };
}

async function copied(code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    return true;
  } catch {
    // Not over plain HTTP from another machine; the older way may.
    getSelection().selectAllChildren(code);
    return document.execCommand("copy");
  }
}
