// The AI SDK, as its users use it: its providers for OpenAI-compatible servers and for Anthropic.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embed, generateText, streamText } from "ai";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: Object.fromEntries(
    ["base-url", "backend", "model", "unserved"].map((name) => [name, { type: "string" }]),
  ),
});
const baseURL = values["base-url"];
const providers = {
  compatible: createOpenAICompatible({ name: "inferline", baseURL, apiKey: "test" }),
  anthropic: createAnthropic({ baseURL, apiKey: "test" }),
};
const prompt = "Who carries the tasks?";

const told = (error) => {
  const last = error.lastError ?? error;
  return { kind: last.name, message: last.message, status: last.statusCode ?? null };
};

const whole = async (model) => {
  const answer = await generateText({ model, prompt, maxOutputTokens: 100 });
  return { text: answer.text, finish: answer.finishReason };
};

const streamed = async (model) => {
  let failed = null;
  const stream = streamText({ model, prompt, maxOutputTokens: 100, onError: ({ error }) => (failed = error) });
  let text = "";
  for await (const piece of stream.textStream) text += piece;
  if (failed) throw failed;
  return { text, finish: await stream.finishReason };
};

const sights = {};
const see = async (name, look) => {
  try {
    sights[name] = await look();
  } catch (error) {
    sights[name] = { error: told(error) };
  }
};

for (const [name, provider] of Object.entries(providers)) {
  await see(`${name}, whole`, () => whole(provider(values.model)));
  await see(`${name}, streamed`, () => streamed(provider(values.model)));
  await see(`${name}, unknown`, () => whole(provider("no-such-model")));
  await see(`${name}, unknown stream`, () => streamed(provider("no-such-model")));
}
await see("embedding", async () => {
  const model = providers.compatible.embeddingModel(values.model);
  return { length: (await embed({ model, value: "tea" })).embedding.length };
});
console.log(JSON.stringify(sights));
