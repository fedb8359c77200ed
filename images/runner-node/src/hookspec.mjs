// What a hook was registered with: its description for the host, and which
// events its handler takes.

import { MAX_ENTRIES, spec } from "./serialise.mjs";

/** The longest name of an event, in characters; longer ones are no events. */
const MAX_EVENT = 256;

const TOOL_EVENTS = new Set(["before_tool_call", "after_tool_call"]);
const TRIGGERS = new Set(["cron", "heartbeat", "user"]);
const DISPATCH_KINDS = new Set(["agent", "acp"]);

/**
 * @typedef {object} Hook a handler and what it was registered with
 * @property {string} event
 * @property {"on" | "registerHook" | "export"} registrar
 * @property {(event: unknown, context?: object) => unknown} handler
 * @property {object} spec for the host
 * @property {(payload: any) => boolean} takes tells whether the handler is called for an event
 */

/**
 * newHook checks a registration. Null is one that cannot be called.
 * @param {object} registration
 * @param {unknown} registration.event
 * @param {unknown} registration.handler
 * @param {any} [registration.options]
 * @param {"on" | "registerHook" | "export"} registration.registrar
 * @param {(level: "warn", message: string) => void} diagnose
 * @returns {Hook | null}
 */
export function newHook({ event: given, handler, options, registrar }, diagnose) {
  const event = typeof given === "string" ? given.trim() : "";
  if (!event || event.length > MAX_EVENT || typeof handler !== "function") return null;
  const { priority, timeoutMs, name, description, registrationId, requiresToolAuthority } = options ?? {};
  const rank = rankOf(priority);
  if (priority !== undefined && rank === undefined) {
    diagnose("warn", `the priority of a hook of ${event} is not a number; it is 0`);
  }
  const core = {
    event,
    priority: rank ?? 0,
    ...(Number.isFinite(timeoutMs) && timeoutMs > 0 ? { timeoutMs } : {}),
    registrar,
  };
  const filters = filtersOf(event, options, diagnose);
  const full = spec({ ...core, ...filters, name, description, registrationId, requiresToolAuthority });
  return { event, registrar, handler, spec: full.truncated || long(filters) ? core : full, takes: (payload) => takes(filters, payload) };
}

/** A priority as JSON can tell it: of an infinite one the largest there is. */
function rankOf(priority) {
  if (typeof priority !== "number" || Number.isNaN(priority)) return undefined;
  return Math.max(-Number.MAX_VALUE, Math.min(priority, Number.MAX_VALUE));
}

/**
 * The restrictions of OpenClaw: matcher is for tool events, eligibleTriggers
 * for before_agent_reply, eligibleDispatchKinds for reply_dispatch. One that
 * is not valid restricts nothing.
 */
function filtersOf(event, options, diagnose) {
  const filters = {};
  if (TOOL_EVENTS.has(event) && options?.matcher !== undefined) {
    filters.matcher = toolNames(options.matcher);
    if (!filters.matcher) {
      diagnose("warn", `the matcher of a hook of ${event} is not a list of tool names; the handler is called for every tool`);
    }
  }
  if (event === "before_agent_reply") filters.eligibleTriggers = known(options?.eligibleTriggers, TRIGGERS);
  if (event === "reply_dispatch") filters.eligibleDispatchKinds = known(options?.eligibleDispatchKinds, DISPATCH_KINDS);
  return filters;
}

/** A description keeps the first entries of a list only, and a part of a restriction would be another one. */
const long = (filters) => Object.values(filters).some((list) => list?.length > MAX_ENTRIES);

function toolNames(list) {
  if (!Array.isArray(list) || list.length === 0) return undefined;
  const names = list.map(fold);
  return names.every((name) => name !== "" && name !== "*") ? [...new Set(names)] : undefined;
}

const fold = (name) => (typeof name === "string" ? name.trim().toLowerCase() : "");

function known(list, values) {
  return Array.isArray(list) && list.length > 0 && list.every((item) => values.has(item)) ? [...list] : undefined;
}

/** What an event does not tell does not keep it from a handler. */
function takes({ matcher, eligibleTriggers, eligibleDispatchKinds }, payload) {
  const fits = (list, value) => !list || typeof value !== "string" || list.includes(value);
  return fits(matcher, fold(payload?.toolName) || undefined)
    && fits(eligibleTriggers, payload?.trigger)
    && fits(eligibleDispatchKinds, payload?.dispatchKind);
}

/**
 * coreSpec is the part of a hook's spec that the host cannot do without.
 * @param {object} full
 */
export function coreSpec({ event, priority, timeoutMs, registrar }) {
  return { event, priority, ...(timeoutMs === undefined ? {} : { timeoutMs }), registrar };
}
