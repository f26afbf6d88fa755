// openai-node on chat completions.
import OpenAI from "openai";
import { BASE_URL, CANCELLED_AFTER, LONG_PROMPT, MODEL, PROMPT, TOKENS, TOOL_SCHEMA, getWeather, run, wait } from "./asking.mjs";

const client = new OpenAI({ baseURL: BASE_URL, apiKey: "test", timeout: 90_000 });
const tool = { type: "function", function: { name: "get_weather", parameters: TOOL_SCHEMA } };
const said = (content) => [{ role: "user", content }];
const ask = (fields) =>
  client.chat.completions.create({ model: MODEL, messages: said(PROMPT), temperature: 0, max_tokens: TOKENS, ...fields });

async function read(fields, stopAfter = Infinity) {
  const seen = { text: "", pieces: 0 };
  const stream = await ask({ stream: true, ...fields });
  for await (const chunk of stream) {
    seen.text += chunk.choices[0]?.delta?.content ?? "";
    seen.pieces += 1;
    if (seen.pieces >= stopAfter) break;
  }
  return seen;
}

const long = { messages: said(LONG_PROMPT), max_tokens: 1000 };

await run({
  list: async () => {
    const models = [];
    for await (const model of client.models.list()) models.push(model.id);
    return { models };
  },
  plain: async () => ({ text: (await ask({})).choices[0].message.content }),
  stream: () => read({}),
  tools: async () => {
    const first = (await ask({ tools: [tool] })).choices[0].message;
    const [call] = first.tool_calls;
    const content = getWeather(JSON.parse(call.function.arguments));
    const messages = [...said(PROMPT), first, { role: "tool", tool_call_id: call.id, content }];
    return { text: (await ask({ messages, tools: [tool] })).choices[0].message.content };
  },
  error: async () => ({ text: JSON.stringify(await ask({ model: "no-such-model" })) }),
  cancel: async () => {
    const seen = await read(long, CANCELLED_AFTER);
    await wait();
    return seen;
  },
  long: () => read(long),
});
