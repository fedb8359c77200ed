// The three kinds of hook handlers: what each is given, and how its outcome
// is told to the host.

import { isDeepStrictEqual } from "node:util";
import { pluginContext, workspaceOf } from "./context.mjs";
import { cutBytes } from "./errors.mjs";
import { jsonParse, jsonStringify } from "./primordials.mjs";
import { resultJSON } from "./serialise.mjs";

/** The longest reason of a block, in bytes. */
export const MAX_REASON = 4096;

/**
 * @typedef {object} HookCall the host's message
 * @property {string} id
 * @property {number} handler
 * @property {string} event
 * @property {any} payload
 * @property {Record<string, string>} context
 * @property {boolean} [sync]
 * @property {number} timeoutMs
 *
 * @typedef {Record<string, string | undefined>} Fields of a hook.result, as JSON
 *
 * @typedef {object} Invocation a handler with what it is given
 * @property {() => unknown} run calls the handler
 * @property {(value: any) => Fields} outcome of what it returned
 * @property {(error: any) => Fields | null} failure of what it threw; null is an error
 */

/**
 * prepare makes the invocation of a hook for a call. The payload came with
 * the call, so it is the handler's own copy.
 * @param {import("./hookspec.mjs").Hook} hook
 * @param {HookCall} call
 * @param {import("./loader.mjs").Plugin} plugin
 * @param {AbortSignal} signal
 * @returns {Invocation}
 */
export function prepare(hook, call, plugin, signal) {
  return FORMS[hook.registrar](hook, { ...call, payload: call.payload ?? {}, context: call.context ?? {} }, plugin, signal);
}

const FORMS = { on: typed, registerHook: internal, export: exported };
const noBlock = () => null;

/** api.on: what the handler returns is the result. */
function typed({ handler }, call, plugin, signal) {
  return {
    run: () => handler(call.payload, typedContext(plugin, call, signal)),
    outcome: (value) => ({ result: resultJSON(value) }),
    failure: noBlock,
  };
}

/** api.registerHook: the handler changes its event and pushes messages onto it. */
function internal({ handler }, call) {
  const event = internalEvent(call);
  const before = jsonStringify(call.payload);
  return {
    run: () => handler(event),
    outcome: (value) => ({
      result: resultJSON(value === undefined && event.messages?.length > 0 ? { messages: event.messages } : value),
      payload: changed(before, event.context),
    }),
    failure: noBlock,
  };
}

/** export const hooks: the handler changes the payload, or blocks. */
function exported({ handler }, call, { load, config, logger }) {
  const { payload } = call;
  const before = jsonStringify(payload);
  const refused = (reason) => ({ result: "null", block: jsonStringify(reason === "" ? {} : { reason: cutBytes(reason, MAX_REASON) }) });
  return {
    run: () => handler(payload, pluginContext(load, config, logger, call.context)),
    outcome: (value) => {
      const object = value !== null && typeof value === "object" && !Array.isArray(value);
      if (object && value.block) return refused(reasonOf(value));
      return { result: object ? resultJSON(value) : "null", payload: changed(before, payload) };
    },
    failure: (error) => {
      const reason = blockErrorReason(error);
      return reason === null ? null : refused(reason);
    },
  };
}

/** The reason of a BlockError; of anything else null. Getters of the plugin may throw. */
function blockErrorReason(error) {
  try {
    if (error?.name !== "BlockError" && error?.constructor?.name !== "BlockError") return null;
    return firstText(error.message, error.reason, error.blockReason);
  } catch {
    return null;
  }
}

function reasonOf({ block, reason, blockReason, message }) {
  return firstText(block, block.reason, block.blockReason, block.message, reason, blockReason, message);
}

const firstText = (...values) => values.find((value) => typeof value === "string" && value !== "") ?? "";

/** The payload as JSON when it is another than before. The order of keys is no difference. */
function changed(before, payload) {
  const after = resultJSON(payload);
  return after === before || same(after, before) ? undefined : after;
}

function same(one, other) {
  try {
    return isDeepStrictEqual(jsonParse(one), jsonParse(other));
  } catch {
    return false; // nested too deep to be compared
  }
}

/**
 * internalEvent is the event object of OpenClaw's internal hooks. The type is
 * what comes before the first colon.
 * @param {HookCall} call
 */
function internalEvent({ event, payload, context }) {
  const colon = event.indexOf(":");
  return {
    type: colon < 0 ? event : event.slice(0, colon),
    action: colon < 0 ? "" : event.slice(colon + 1),
    sessionKey: firstText(context.sessionKey, payload.sessionKey),
    context: payload,
    timestamp: new Date(),
    messages: [],
  };
}

/** Fields that OpenClaw has in the contexts of some events; they are taken from an event that holds them. */
const CARRIED = [
  "agentId", "sessionKey", "sessionId", "runId", "jobId", "toolCallId", "toolName", "toolKind", "toolInputKind",
  "channel", "channelId", "accountId", "conversationId", "parentConversationId", "messageId", "senderId",
  "replyToId", "messageProvider", "modelProviderId", "modelId", "trigger", "dispatchKind", "callDepth",
  "childSessionKey", "requesterSessionKey", "port",
];

/**
 * typedContext is the context of a typed hook. What the host says of the call
 * comes before what the event holds.
 * @param {import("./loader.mjs").Plugin} plugin
 * @param {HookCall} call
 * @param {AbortSignal} signal
 */
function typedContext({ load, config }, { payload, context }, signal) {
  const ctx = {};
  for (let i = 0; i < CARRIED.length; i++) {
    const key = CARRIED[i];
    const value = context[key] || payload[key];
    if (typeof value === "string" || typeof value === "number") ctx[key] = value;
  }
  ctx.agentId ??= load.agentId;
  if (ctx.channel !== undefined) ctx.channelId ??= ctx.channel;
  if (ctx.toolName !== undefined && ctx.senderId !== undefined) ctx.requester = { senderId: ctx.senderId };
  return { ...ctx, workspaceDir: workspaceOf(load, context), config, abortSignal: signal };
}
