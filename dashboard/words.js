// What the figures mean, in words: how a model and a provider do, and why a request waits.

import { capital, count, listed, share, some, span, sum } from "./format.js";

const TIERS = ["priority", "default", "flex"];
/** From this share of the time after which a provider counts as gone, its silence is worth saying. */
const SILENT_SHARE = 0.6;
/** With a slot free, a task is taken within this; seconds. */
const TAKEN_SECONDS = 10;
/** So many reasons why providers of a model are unhealthy are told. */
const REASONS_MAX = 2;

/** The overview by model: its tiers, its providers and its figures together. */
export function modelsOf(told) {
  const models = new Map();
  const of = (id) => {
    if (!models.has(id)) models.set(id, { id, tiers: {}, serving: [], ill: [], figures: null });
    return models.get(id);
  };
  for (const queue of told.queues) of(queue.model).tiers[queue.tier] = queue;
  for (const provider of told.providers) {
    for (const id of provider.models) of(id)[provider.healthy ? "serving" : "ill"].push(provider);
  }
  for (const figures of told.hour.models) {
    if (models.has(figures.model)) models.get(figures.model).figures = figures;
  }
  for (const model of models.values()) summarise(model);
  return models;
}

function summarise(model) {
  // A task of a batch is many lines and waits for hours, for nothing: its table tells of those.
  const queues = Object.values(model.tiers).filter((queue) => queue.tier !== "batch");
  model.waiting = sum(queues.map((queue) => queue.waiting));
  model.running = sum(queues.map((queue) => queue.running));
  const ages = queues.map((queue) => queue.oldest_seconds).filter((age) => age !== null);
  model.oldest = ages.length ? Math.max(...ages) : null;
  model.slots = sum(model.serving.map((provider) => provider.slots));
  model.used = sum(model.serving.map((provider) => Math.min(provider.running, provider.slots)));
  model.state = stateOf(model);
}

/** A model's state: a name, and how grave it is (good, busy, bad). */
function stateOf(model) {
  if (!model.serving.length) return model.ill.length ? ["unhealthy", "bad"] : ["no provider", "bad"];
  if (!model.slots) return ["no slots", "bad"];
  if (model.waiting > 0 && isCold(model)) return ["cold", "busy"];
  if (model.waiting > 0) return ["backlog", "busy"];
  if (model.used >= model.slots) return ["full", "busy"];
  return model.running > 0 ? ["serving", "good"] : ["ready", "good"];
}

const isCold = (model) => model.serving.every((provider) => provider.service_seconds <= 0);

/** How long a new request of a tier would wait, seconds; null when nobody can tell. */
export function estimate(model, tier) {
  if (!model.serving.length || model.serving.some((provider) => provider.service_seconds <= 0)) return null;
  const rate = sum(model.serving.map((provider) => provider.slots / provider.service_seconds));
  const before = sum(TIERS.slice(0, TIERS.indexOf(tier) + 1).map((name) => model.tiers[name]?.waiting ?? 0));
  return rate > 0 ? before / rate : null;
}

/** Why a request for a model waits, or would, as one or more sentences. */
export function why(model, silentSeconds) {
  const waits = model.waiting ? `${some(model.waiting, "request")} ${model.waiting === 1 ? "waits" : "wait"}. ` : "";
  if (!model.serving.length) return waits + unserved(model);
  if (!model.slots) return `${waits}Its providers offer no slots.`;
  if (!model.waiting) return unwaited(model);
  return waits + [isCold(model) ? cold(model) : backlog(model), illness(model), silence(model, silentSeconds)].filter(Boolean).join(" ");
}

function unserved(model) {
  if (!model.ill.length) {
    return "No provider serves it. Requests are refused after a short wait; start a provider whose LLM server has this model.";
  }
  const names = listed(model.ill.map((one) => one.id));
  const reasons = [...new Set(model.ill.map(reasonOf))].slice(0, REASONS_MAX).join(" ");
  return `${names} would serve it, but ${model.ill.length === 1 ? "is" : "are"} unhealthy. ${reasons} Work is taken again once that is mended.`;
}

/** Why an unhealthy provider takes no work. */
const reasonOf = (provider) => provider.reason || "Its LLM server does not answer the health check.";

function unwaited(model) {
  const free = model.slots - model.used;
  if (free > 0) return `Nothing waits. A new request is taken at once: ${count(free)} of ${some(model.slots, "slot")} free.`;
  return `Nothing waits, but all ${some(model.slots, "slot")} are in use: a new request takes the next one that comes free.`;
}

function cold(model) {
  const who = model.serving.length === 1 ? "Its provider has" : "Its providers have";
  return `The model is cold: ${who.toLowerCase()} not finished a task yet, and an LLM server may still be loading it. ` +
    "After the first answer there is an estimate.";
}

function backlog(model) {
  const free = model.slots - model.used;
  if (free >= model.waiting && model.oldest < TAKEN_SECONDS) return `${capital(some(free, "slot"))} ${free === 1 ? "is" : "are"} free: it is being taken.`;
  if (free > 0 && model.oldest >= TAKEN_SECONDS) {
    return `A slot is free, and still the oldest has waited ${span(model.oldest)}: its provider may have been lost, ` +
      "and the task comes back when its lease ends; or the slots are taken by other models.";
  }
  const full = free > 0 ? `${count(model.used)} of ${some(model.slots, "slot")} are in use` : `All ${some(model.slots, "slot")} are in use`;
  const parts = [`${full}, and the oldest request has waited ${span(model.oldest)}.`];
  const told = TIERS.filter((tier) => model.tiers[tier]?.waiting)
    .map((tier) => [tier, estimate(model, tier)]).filter(([, seconds]) => seconds !== null)
    .map(([tier, seconds]) => `${span(seconds)} in ${tier}`);
  if (told.length) parts.push(`A new one waits about ${listed(told)}.`);
  return [...parts, turns(model)].filter(Boolean).join(" ");
}

/** Whose requests they are, without names: each tier has turns of its own. */
function turns(model) {
  const queues = TIERS.map((tier) => model.tiers[tier]).filter((queue) => queue?.waiting);
  const shared = queues.filter((queue) => queue.tenants > 1).map((queue) => {
    const where = queues.length > 1 ? ` in ${queue.tier}` : "";
    const yours = `${queue.yours ? few(queue.yours) : "none"} of the requests ${queue.yours > 1 ? "are" : "is"} yours`;
    return `${capital(few(queue.tenants, "tenant"))} wait${where}; the largest has ${share(queue.largest_share, 1)} of what waits, and ${yours}.`;
  });
  const mayBeShared = shared.length || queues.some((queue) => queue.tenants === undefined);
  return mayBeShared ? [...shared, "Tenants take turns, so one with few requests waits less."].join(" ") : "";
}

function illness(model) {
  if (!model.ill.length) return "";
  return `${listed(model.ill.map((one) => one.id))} ${model.ill.length === 1 ? "is unhealthy and takes" : "are unhealthy and take"} no work.`;
}

function silence(model, silentSeconds) {
  const silent = model.serving.filter((provider) => isSilent(provider, silentSeconds));
  if (!silent.length) return "";
  const names = listed(silent.map((provider) => provider.id));
  return `${names} ${silent.length === 1 ? "has" : "have"} not been heard of for a while; what a lost provider holds comes back by itself.`;
}

export const isSilent = (provider, silentSeconds) => provider.seen_seconds_ago > SILENT_SHARE * silentSeconds;

/** A provider's state: a name, how grave it is, and a sentence on it where there is something to say. */
export function providerState(provider, silentSeconds) {
  if (provider.gone) {
    return provider.left
      ? ["left", "quiet", "It ended and said so."]
      : ["gone", "bad", `Not heard of for more than ${span(silentSeconds)}. What it held goes to others.`];
  }
  if (!provider.healthy) return ["unhealthy", "bad", `It takes no work. ${reasonOf(provider)}`];
  if (isSilent(provider, silentSeconds)) return ["silent", "busy", `Counts as gone after ${span(silentSeconds)}.`];
  if (provider.warning) return ["ambiguous", "busy", provider.warning];
  if (provider.slots && provider.running >= provider.slots) return ["full", "busy", ""];
  return provider.running ? ["serving", "good", ""] : ["idle", "good", ""];
}

/** A number in a sentence: the small ones as words. */
function few(number, noun) {
  const word = ["no", "one", "two", "three", "four", "five", "six"][number] ?? count(number);
  return noun ? `${word} ${noun}${number === 1 ? "" : "s"}` : word;
}

/** How everything does, in one sentence. */
export function lead(models, told) {
  if (!models.length) return "No model is known yet. Start a provider.";
  const unserved = models.filter((model) => !model.serving.length);
  const waiting = sum(models.map((model) => model.waiting));
  const running = sum(models.map((model) => model.running));
  const by = `by ${few(told.providers.length, "provider")}`;
  const served = unserved.length === 0
    ? `${capital(few(models.length, "model"))} ${models.length === 1 ? "is" : "are"} served ${by}`
    : `${capital(unserved.length === models.length ? "none" : few(models.length - unserved.length))} of ${few(models.length, "model")} ${models.length - unserved.length > 1 ? "are" : "is"} served, ${by}`;
  const doing = [running && `${count(running)} running`, waiting && `${count(waiting)} waiting`].filter(Boolean);
  return `${served}; ${doing.length ? doing.join(", ") : "nothing waits"}.`;
}
