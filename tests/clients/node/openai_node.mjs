// openai-node, as its users use it. Prints what was seen as one JSON object.
import { randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import OpenAI, { toFile } from "openai";

const { values: flags } = parseArgs({
  options: {
    "base-url": { type: "string" },
    backend: { type: "string" },
    model: { type: "string" },
    unserved: { type: "string" },
  },
});
const model = flags.model;
const client = new OpenAI({ baseURL: flags["base-url"], apiKey: "test", timeout: 60_000 });
const messages = [{ role: "user", content: "Who carries the tasks?" }];
const tool = {
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather in a city.",
    parameters: {
      type: "object",
      properties: { city: { type: "string" }, days: { type: "integer" } },
      required: ["city"],
    },
  },
};

// The backend is gone in the middle of its stream, and back when the rest is asked for.
const dies = { abort_after_tokens: 3, interval: 0.1, times: 1, key: randomUUID() };

const sights = {};

async function state() {
  return await (await fetch(`${flags.backend}/_script/state`)).json();
}

function describe(error) {
  const kinds = [];
  for (let kind = error.constructor; kind?.name; kind = Object.getPrototypeOf(kind)) {
    kinds.push(kind.name);
  }
  return {
    error: error.constructor.name,
    kinds,
    status: error.status ?? null,
    code: error.code ?? null,
    request_id: error.requestID ?? null,
    message: String(error.message).slice(0, 300),
  };
}

async function timed(run) {
  const start = performance.now();
  let seen;
  try {
    seen = await run();
  } catch (error) {
    seen = describe(error);
  }
  seen.seconds = Math.round(performance.now() - start) / 1000;
  return seen;
}

// Wait until the provider takes work again: it leaves a backend that failed alone for a while.
async function settle() {
  const asked = { method: "POST", body: JSON.stringify({ model, input: "a" }) };
  asked.headers = { "content-type": "application/json", authorization: "Bearer test" };
  for (let tried = 0; tried < 20; tried += 1) {
    const answer = await fetch(`${flags["base-url"]}/embeddings`, asked);
    await answer.text();
    if (answer.ok) return;
  }
}

async function see(name, run) {
  await settle();
  const { calls } = await state();
  sights[name] = await timed(run);
  sights[name].calls = (await state()).calls - calls;
}

const ask = (fields, options) =>
  client.chat.completions.create({ model, messages, x_script: {}, ...fields }, options);

async function chat(x_script = {}) {
  const answer = await ask({ x_script });
  return {
    text: answer.choices[0].message.content,
    finish: answer.choices[0].finish_reason,
    total_tokens: answer.usage.total_tokens,
    request_id: answer._request_id,
  };
}

async function stream(x_script = {}) {
  let seen = { text: "", finish: null, events: 0, total_tokens: null };
  try {
    const options = { include_usage: true };
    for await (const chunk of await ask({ x_script, stream: true, stream_options: options })) {
      seen.events += 1;
      seen.total_tokens = chunk.usage?.total_tokens ?? seen.total_tokens;
      for (const choice of chunk.choices) {
        seen.text += choice.delta.content ?? "";
        seen.finish = choice.finish_reason ?? seen.finish;
      }
    }
  } catch (error) {
    seen = { ...seen, ...describe(error) };
  }
  return seen;
}

async function tools() {
  const [call] = (await ask({ tools: [tool] })).choices[0].message.tool_calls;
  return { name: call.function.name, arguments: call.function.arguments, id: call.id };
}

async function toolsStream() {
  const seen = { name: null, arguments: "", id: null, finish: null };
  for await (const chunk of await ask({ tools: [tool], stream: true })) {
    for (const choice of chunk.choices) {
      seen.finish = choice.finish_reason ?? seen.finish;
      for (const call of choice.delta.tool_calls ?? []) {
        seen.id = call.id ?? seen.id;
        seen.name = call.function.name ?? seen.name;
        seen.arguments += call.function.arguments ?? "";
      }
    }
  }
  return seen;
}

async function completion() {
  const asked = { model, prompt: "Once", max_tokens: 5 };
  const whole = (await client.completions.create(asked)).choices[0];
  let streamed = "";
  for await (const chunk of await client.completions.create({ ...asked, stream: true })) {
    streamed += chunk.choices[0].text;
  }
  return { text: whole.text, finish: whole.finish_reason, streamed };
}

async function embeddings() {
  const answer = await client.embeddings.create({ model, input: ["a b", "c"] });
  return { vectors: answer.data.map((item) => item.embedding) };
}

async function responses() {
  const asked = { model, input: "Who?" };
  const whole = await client.responses.create(asked);
  let [streamed, last] = ["", ""];
  for await (const event of await client.responses.create({ ...asked, stream: true })) {
    last = event.type;
    streamed += last === "response.output_text.delta" ? event.delta : "";
  }
  return { text: whole.output_text, streamed, last };
}

async function models() {
  const ids = [];
  for await (const found of client.models.list()) ids.push(found.id);
  return { ids };
}

async function files() {
  const folder = await mkdtemp(join(tmpdir(), "files-"));
  const path = join(folder, "lines.jsonl");
  const lines = '{"custom_id": "a"}\n'.repeat(1000);
  await writeFile(path, lines);
  const made = [];
  for (const n of [1, 2, 3, 4, 5]) {
    const file = n < 5 ? createReadStream(path) : await toFile(Buffer.from(lines), "upload");
    made.push(await client.files.create({ file, purpose: "batch" }));
  }
  await rm(folder, { recursive: true });
  const ids = made.map((file) => file.id);
  const { status } = await client.files.waitForProcessing(ids[0]);
  const listed = [];
  for await (const file of client.files.list({ limit: 2, order: "asc" })) listed.push(file.id);
  const contents = [];
  for (const id of ids) contents.push(await (await client.files.content(id)).text());
  const deleted = [];
  for (const id of ids) deleted.push((await client.files.delete(id)).deleted);
  return {
    names: made.map((file) => file.filename),
    status,
    is_listed: JSON.stringify(listed) === JSON.stringify(ids.sort()),
    is_same: contents.every((content) => content === lines),
    deleted,
  };
}

// Beside all others, because it waits long and never reaches the backend.
const unserved = timed(() => ask({ model: flags.unserved }, { maxRetries: 1 }));
await see("models", models);
await see("files", files);
await see("chat", () => chat());
await see("stream", () => stream());
await see("emoji", () => chat({ emoji: true }));
await see("emoji_stream", () => stream({ emoji: true }));
await see("crlf_stream", () => stream({ crlf: true, comments: true }));
await see("tools", tools);
await see("tools_stream", toolsStream);
await see("completion", completion);
await see("embeddings", embeddings);
await see("responses", responses);
await see("unknown_model", () => ask({ model: "no-such-model" }));
await see("refused", () => chat({ status: 400 }));
await see("breaks", () => stream({ error_event_after: 3, interval: 0.1 }));
await see("dies", () => stream(dies));
await see("timeout", () => ask({ x_script: { hang: true } }, { timeout: 1000, maxRetries: 0 }));
const start = performance.now();
while ((await state()).running && performance.now() - start < 10_000) {
  await new Promise((resolve) => setTimeout(resolve, 20));
}
sights.timeout.freed_seconds = Math.round(performance.now() - start) / 1000;
await see("fails_once", () => chat({ status: 503, retry_after: 1, times: 1, key: randomUUID() }));
await see("fails_for_good", () => chat({ status: 503 }));
sights.no_provider = await unserved;
console.log(JSON.stringify(sights));
