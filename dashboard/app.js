// Where it begins: asks the gateway again and again, and shows the view that the address names.

import { ApiError, hasKey, hourOf, NoAnswer, onKeyWanted, overview, useKey } from "./api.js";
import { Batches } from "./batches.js";
import { byId, mark, write } from "./dom.js";
import { ModelView } from "./model.js";
import { OverviewView } from "./overview.js";
import { PlaygroundView } from "./playground.js";
import { modelsOf } from "./words.js";

/** Between two looks, milliseconds: the gateway has nothing newer before. Tests have it shorter. */
const EVERY_MS = globalThis.inferlineEveryMs ?? 3000;
const EVERY_MS_MAX = 30_000;
/** A look that takes long is followed by a longer pause. */
const PAUSES_PER_LOOK = 5;
const LOOK_MS_MAX = 20_000;

const views = { overview: new OverviewView(), model: new ModelView(), playground: new PlaygroundView() };
const batches = new Batches();
const titles = { overview: "InferLine", model: "", playground: "Playground · InferLine" };
let told = null;
let models = new Map();
let route = { view: "overview", id: "" };
let timer = 0;
let failures = 0;

// The address.

function routeOf(hash) {
  const [, view, ...rest] = hash.split("/");
  let id = rest.join("/");
  try {
    id = decodeURIComponent(id);
  } catch {
    // As it stands, then.
  }
  if (view === "models" && id) return { view: "model", id };
  return view === "playground" ? { view, id } : { view: "overview", id: "" };
}

function go(isFirst = false) {
  route = routeOf(location.hash);
  for (const view of Object.keys(views)) byId(view).hidden = view !== route.view;
  for (const link of document.querySelectorAll("nav a")) {
    const here = routeOf(new URL(link.href).hash).view === route.view;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = titles[route.view] || `${route.id} · InferLine`;
  if (route.view === "playground" && route.id) views.playground.choose(route.id);
  show();
  if (isFirst) return;
  if (route.view === "model") look();
  scrollTo(0, 0);
  document.querySelector(`#${route.view} h1`).focus({ preventScroll: true });
}

// The looks.

function show() {
  if (!told) return;
  const news = views.overview.show(told, models);
  if (news.length) write(byId("news"), news.slice(0, 3).join(" "));
  if (route.view === "model") views.model.show(route.id, told, models.get(route.id));
  views.playground.show(models, told.silent_seconds);
  write(byId("version"), `InferLine ${told.version}`);
}

function keyButton() {
  byId("forget").hidden = !hasKey() && !refused;
  write(byId("forget"), hasKey() ? "Forget key" : "Enter key");
}

async function look() {
  clearTimeout(timer);
  const begun = performance.now();
  try {
    told = await overview(LOOK_MS_MAX);
    models = modelsOf(told);
    failures = 0;
    alive("live", "Live");
    trouble("");
    show();
    await lookAtModel();
    if (route.view === "overview") await batches.look(told, LOOK_MS_MAX);
  } catch (error) {
    failures += 1;
    alive("lost", error.status === 401 || error.status === 403 ? "No key" : "Not connected");
    const seen = told ? " What is shown is what was last told." : "";
    trouble(`${error.name === "TimeoutError" ? "The gateway takes too long to answer." : error.message}${seen}`);
    if (!isForeseen(error)) throw error;
  } finally {
    keyButton();
    again(performance.now() - begun);
  }
}

/** Its hour by minute is asked for only while it is in view. */
async function lookAtModel() {
  const { view, id } = route;
  if (view === "model" && models.has(id)) views.model.showHour(id, await hourOf(id, LOOK_MS_MAX));
}

const isForeseen = (error) => error instanceof ApiError || error instanceof NoAnswer || error.name === "TimeoutError";

function again(tookMs) {
  clearTimeout(timer);
  if (document.hidden) return alive("paused", "Paused");
  const pause = Math.max(EVERY_MS * 2 ** Math.min(failures, 4), tookMs * PAUSES_PER_LOOK);
  timer = setTimeout(look, Math.min(EVERY_MS_MAX, pause));
}

function alive(state, text) {
  mark(byId("live"), "data-state", state);
  write(byId("live-text"), text);
}

function trouble(text) {
  byId("trouble").hidden = !text;
  write(byId("trouble"), text);
}

// The key.

let asking = null;
let refused = false;

function keyWanted(message) {
  if (refused) return Promise.resolve(false);
  asking ??= new Promise((done) => {
    const dialog = byId("key");
    write(byId("key-wrong"), message);
    byId("key-field").value = "";
    const end = (given) => {
      asking = null;
      refused = !given;
      byId("key-form").onsubmit = byId("key-cancel").onclick = dialog.oncancel = null;
      byId("key-field").value = "";
      dialog.close();
      done(given);
    };
    byId("key-form").onsubmit = (event) => {
      event.preventDefault();
      const text = byId("key-field").value.trim();
      if (!text) return write(byId("key-wrong"), "Paste a key, or choose “Not now”.");
      useKey(text);
      end(true);
    };
    byId("key-cancel").onclick = () => end(false);
    dialog.oncancel = (event) => {
      event.preventDefault();
      end(false);
    };
    dialog.showModal();
    byId("key-field").focus();
  });
  return asking;
}

onKeyWanted(keyWanted);
byId("forget").addEventListener("click", () => {
  if (hasKey()) {
    useKey("");
    location.reload();
  } else {
    refused = false;
    look();
  }
});
addEventListener("hashchange", () => go());
document.addEventListener("visibilitychange", () => {
  if (document.hidden) again(0);
  else look();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("main").focus();
});

go(true);
look();
