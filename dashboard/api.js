// The gateway's API: where it is, the key it may ask for, and questions to it.

/** An error as the gateway told it, in OpenAI's shape. */
export class ApiError extends Error {
  constructor(status, told, requestId) {
    super(told?.message || `The gateway answered with status ${status}.`);
    this.status = status;
    this.code = told?.code ?? null;
    this.requestId = requestId;
  }
}

/** Nobody answered, or nobody who speaks this API. */
export class NoAnswer extends Error {}

const places = document.querySelector('meta[name="inferline-api"]');
const candidates = (places?.content || "../v1/")
  .split(/\s+/).filter(Boolean).map((path) => new URL(path, document.baseURI).href);
let base = candidates[0];
let found = false;
let key = "";  // In memory alone: never stored, never in an address.
let tellsModels = true;  // Not so of an older gateway, which is then asked only once.
let askForKey = async () => false;

/** The address that clients are given, without the last slash. */
export const baseUrl = () => (places?.dataset.clients || base).replace(/\/$/, "");
export const hasKey = () => key !== "";
export const useKey = (text) => { key = text; };
/** Have `ask(message)` called when a key is wanted; it resolves to whether there is one now. */
export const onKeyWanted = (ask) => { askForKey = ask; };

const headers = () => (key ? { authorization: `Bearer ${key}` } : {});

/** The overview. Raises ApiError, NoAnswer, or TimeoutError after `withinMs`. */
export async function overview(withinMs) {
  return (await ask("overview", { withinMs })).json();
}

/** The last hour of one model; null where the gateway tells none. Raises as the overview does. */
export async function hourOf(model, withinMs) {
  if (!tellsModels) return null;
  try {
    return await (await ask(`overview/hour?model=${encodeURIComponent(model)}`, { withinMs })).json();
  } catch (error) {
    if (error.status !== 404) throw error;
    tellsModels = error.code === "model_not_found";
    return null;
  }
}

/** Fetch `path`; asks the reader for a key when the gateway does. Raises ApiError or NoAnswer. */
export async function ask(path, told = {}) {
  for (;;) {
    const shown = key;
    const response = await reach(path, told);
    if (response.ok) return response;
    const error = await errorOf(response);
    if (error.status !== 401 && !(error.status === 403 && path.startsWith("overview"))) throw error;
    if (shown === key && !(await askForKey(shown ? error.message : ""))) throw error;
  }
}

async function reach(path, { withinMs, ...told }) {
  const tried = found ? [base] : candidates;
  for (const place of tried) {
    const request = { ...told, headers: { ...told.headers, ...headers() }, cache: "no-store", credentials: "same-origin" };
    if (withinMs) request.signal = AbortSignal.timeout(withinMs);
    let response;
    try {
      response = await fetch(new URL(path, place), request);
    } catch (error) {
      if (error.name === "AbortError" || error.name === "TimeoutError") throw error;
      continue;
    }
    const speaks = /^(application\/json|text\/event-stream)/.test(response.headers.get("content-type") || "");
    if (!speaks && place !== tried.at(-1)) continue;
    if (!speaks && !found) break;
    base = place;
    found = true;
    return response;
  }
  throw new NoAnswer("The gateway does not answer.");
}

async function errorOf(response) {
  let told = null;
  try {
    told = (await response.json()).error;
  } catch {
    // Something on the way answered in its own form; the status says enough.
  }
  return new ApiError(response.status, told, response.headers.get("x-request-id"));
}
