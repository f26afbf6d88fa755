// openai-node that asks once and leaves what goes wrong to its own retries.
import OpenAI from "openai";

const [baseURL, body] = process.argv.slice(2);
let retries = 0;
const counted = (url, init) => {
  retries = Number(new Headers(init.headers).get("x-stainless-retry-count"));
  return fetch(url, init);
};
const client = new OpenAI({ baseURL, apiKey: "test", timeout: 60_000, maxRetries: 10, fetch: counted });
const { data, response } = await client.chat.completions.create(JSON.parse(body)).withResponse();
console.log(
  JSON.stringify({
    text: data.choices[0].message.content,
    request_id: response.headers.get("x-request-id"),
    retries,
  }),
);
