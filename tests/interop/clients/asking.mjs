// What the scripts of clients in JavaScript share, as asking.py does for Python.
export const BASE_URL = process.env.INTEROP_BASE_URL;
export const ROOT_URL = BASE_URL.replace(/\/v1$/, "");
export const MODEL = process.env.INTEROP_MODEL;
export const PROMPT = "Who carries the tasks?";
export const LONG_PROMPT = "Tell me a long story about a conveyor belt.";
export const TOKENS = 24;
export const CANCELLED_AFTER = 4;
export const TOOL_SCHEMA = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
};

export const getWeather = ({ city }) => `interop-42 in ${city}`;

// Until whoever runs this has looked whether the connection is closed.
export const wait = () => new Promise((resolve) => process.stdin.on("end", resolve).resume());

export async function run(cases) {
  let seen;
  try {
    seen = await cases[process.argv[2]]();
  } catch (error) {
    console.error(error);
    const status = error.status ?? error.statusCode ?? error.lastError?.statusCode ?? null;
    seen = { error: `${error.name}: ${error.message}`, status };
  }
  console.log(JSON.stringify(seen));
  process.exit(0);
}
