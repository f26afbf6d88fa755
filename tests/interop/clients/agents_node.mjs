// OpenAI's agents SDK for JavaScript, on the Responses API.
import { Agent, Runner, setDefaultOpenAIClient, setTracingDisabled, tool } from "@openai/agents";
import OpenAI from "openai";
import { BASE_URL, CANCELLED_AFTER, LONG_PROMPT, MODEL, PROMPT, TOKENS, TOOL_SCHEMA, getWeather, run, wait } from "./asking.mjs";

setTracingDisabled(true);
setDefaultOpenAIClient(new OpenAI({ baseURL: BASE_URL, apiKey: "test", timeout: 90_000 }));
const runner = new Runner({ tracingDisabled: true });
const weather = tool({
  name: "get_weather",
  description: "The weather in a city.",
  parameters: { ...TOOL_SCHEMA, additionalProperties: true },
  strict: false,
  execute: async (input) => getWeather(input),
});
const agent = ({ model = MODEL, maxTokens = TOKENS, tools = [] } = {}) =>
  new Agent({ name: "a", model, tools, modelSettings: { temperature: 0, maxTokens } });

async function read(prompt, maxTokens, stopAfter = Infinity) {
  const seen = { text: "", pieces: 0 };
  const abort = new AbortController();
  const result = await runner.run(agent({ maxTokens }), prompt, { stream: true, signal: abort.signal });
  for await (const event of result) {
    if (event.type === "raw_model_stream_event" && event.data.type === "output_text_delta") {
      seen.text += event.data.delta;
      seen.pieces += 1;
    }
    if (seen.pieces >= stopAfter) {
      abort.abort();
      break;
    }
  }
  if (stopAfter === Infinity) await result.completed;
  return seen;
}

const ask = async (options) => ({ text: (await runner.run(agent(options), PROMPT)).finalOutput });

await run({
  plain: () => ask(),
  stream: () => read(PROMPT, TOKENS),
  tools: () => ask({ tools: [weather], maxTokens: 200 }),
  error: () => ask({ model: "no-such-model" }),
  cancel: async () => {
    const seen = await read(LONG_PROMPT, 1000, CANCELLED_AFTER);
    await wait();
    return seen;
  },
  long: () => read(LONG_PROMPT, 1000),
});
