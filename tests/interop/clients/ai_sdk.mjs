// The AI SDK, with the provider package that INTEROP_API names.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, isStepCount, jsonSchema, stepCountIs, streamText, tool } from "ai";
import { BASE_URL, CANCELLED_AFTER, LONG_PROMPT, MODEL, PROMPT, TOKENS, TOOL_SCHEMA, getWeather, run, wait } from "./asking.mjs";

const where = { baseURL: BASE_URL, apiKey: "test" };
const makers = {
  compatible: () => createOpenAICompatible({ ...where, name: "inferline" }),
  openai: () => createOpenAI(where),
  anthropic: () => createAnthropic(where),
};
const provider = makers[process.env.INTEROP_API]();
const weather = tool({
  description: "The weather in a city.",
  inputSchema: jsonSchema(TOOL_SCHEMA),
  execute: async (input) => getWeather(input),
});
const ask = (fields) => ({ model: provider(MODEL), prompt: PROMPT, temperature: 0, maxOutputTokens: TOKENS, ...fields });

async function read(fields, stopAfter = Infinity) {
  const seen = { text: "", pieces: 0 };
  const abort = new AbortController();
  const onError = ({ error }) => {
    seen.error = `${error.name}: ${error.message}`;
  };
  const stream = streamText({ ...ask(fields), abortSignal: abort.signal, onError });
  for await (const piece of stream.textStream) {
    seen.text += piece;
    seen.pieces += 1;
    if (seen.pieces >= stopAfter) {
      abort.abort();
      break;
    }
  }
  return seen;
}

const long = { prompt: LONG_PROMPT, maxOutputTokens: 1000 };

await run({
  plain: async () => ({ text: (await generateText(ask({}))).text }),
  stream: () => read({}),
  tools: async () => {
    const stopWhen = (isStepCount ?? stepCountIs)(3);
    return { text: (await generateText(ask({ tools: { get_weather: weather }, stopWhen }))).text };
  },
  error: async () => ({ text: (await generateText({ ...ask({}), model: provider("no-such-model") })).text }),
  cancel: async () => {
    const seen = await read(long, CANCELLED_AFTER);
    await wait();
    return seen;
  },
  long: () => read(long),
});
