// The SDK's other small helpers that light plugins import.

import { createLogger } from "../logger.mjs";
import { notAvailable } from "../unavailable.mjs";
import { asRecord, isRecord, normalizeStringEntriesLower, parseBooleanValue } from "./coerce.mjs";

// The global crypto is made when it is first used; importing node:crypto would
// cost every start 8 ms.
export const generateSecureUuid = () => crypto.randomUUID();
export const generateSecureToken = (size = 16) =>
  Buffer.from(crypto.getRandomValues(new Uint8Array(typeof size === "number" ? size : size.bytes ?? 16))).toString("base64url");

const SECRET_SOURCES = ["env", "file", "exec", "store"];
export const isSecretRef = (value) => isRecord(value) && Object.keys(value).length === 3
  && SECRET_SOURCES.includes(value.source)
  && [value.provider, value.id].every((part) => typeof part === "string" && part.trim());

export const isTruthyEnvValue = (value) => parseBooleanValue(value) === true;

export const createSubsystemLogger = (subsystem) => ({
  ...createLogger(String(subsystem)), subsystem, isEnabled: () => true,
});

/** Needs the agent's own model; the rejection says so. */
export const delegateCompactionToRuntime = async () => notAvailable("delegateCompactionToRuntime")();

export function isDiagnosticFlagEnabled(flag, config) {
  const target = String(flag ?? "").trim().toLowerCase();
  return target !== "" && normalizeStringEntriesLower(config?.diagnostics?.flags).some((enabled) => {
    if (enabled === "all") return true;
    if (enabled.endsWith(".*") && target === enabled.slice(0, -2)) return true;
    return enabled.endsWith("*") ? target.startsWith(enabled.slice(0, -1)) : target === enabled;
  });
}

// Serialised and remembered work.
export function enqueueKeyedTask({ tails, key, task, hooks }) {
  hooks?.onEnqueue?.();
  const before = tails.get(key) ?? Promise.resolve();
  const run = before.then(task).finally(() => hooks?.onSettle?.());
  const tail = run.then(() => {}, () => {}).then(() => {
    if (tails.get(key) === tail) tails.delete(key);
  });
  tails.set(key, tail);
  return run;
}

export class KeyedAsyncQueue {
  #tails = new Map();
  enqueue(key, task, hooks) {
    return enqueueKeyedTask({ tails: this.#tails, key, task, hooks });
  }
}

export function createPluginRuntimeStore(options) {
  const message = typeof options === "string" ? options : options.errorMessage;
  let runtime = null;
  return {
    setRuntime: (next) => void (runtime = next),
    clearRuntime: () => void (runtime = null),
    tryGetRuntime: () => runtime,
    getRuntime() {
      if (runtime === null) throw new Error(message);
      return runtime;
    },
  };
}

// Modules that are imported when they are first needed; a failure is kept.
export function createLazyRuntimeSurface(importer, select) {
  let promise;
  const load = () => (promise ??= importer().then(select));
  return Object.assign(load, { clear: () => (promise = undefined) });
}
export const createLazyRuntimeModule = (importer) => createLazyRuntimeSurface(importer, (module) => module);
export const createLazyRuntimeNamedExport = (importer, name) => createLazyRuntimeSurface(importer, (module) => module[name]);
export const createLazyRuntimeMethod = (load, select) => async (...args) => select(await load())(...args);
export const createLazyRuntimeMethodBinder = (load) => (select) => createLazyRuntimeMethod(load, select);

// Errors.
export const coerceErrorMessage = (value) => (value instanceof Error ? value.message : String(value));
export const toStringifiedError = (value) => (value instanceof Error ? value : new Error(String(value)));
export const readErrorName = (value) => (typeof value?.name === "string" ? value.name : "");
export const extractErrorCode = (value) =>
  typeof value?.code === "string" ? value.code : typeof value?.code === "number" ? String(value.code) : undefined;
export function toErrorObject(value, message) {
  if (value instanceof Error) return value;
  if (typeof value === "string") return new Error(value);
  return Object.assign(new Error(message, { cause: value }), asRecord(value));
}
export function formatErrorMessage(value) {
  const parts = [];
  for (let error = value; error instanceof Error && parts.length < 8; error = error.cause) {
    const text = error.message || error.name;
    if (!parts.some((part) => part.includes(text))) parts.push(text);
  }
  if (parts.length > 0) return parts.join(" | ");
  return typeof value === "string" ? value : JSON.stringify(value) ?? String(value);
}
