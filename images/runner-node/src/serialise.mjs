// Turning what a plugin hands over into JSON: strictly for results, loosely
// for the description of a registration.

import { describe, RunnerError } from "./errors.mjs";
import { jsonStringify } from "./primordials.mjs";

/** How deep a description may be, how many entries of a list or object it keeps, and how long it may be, in characters. */
const MAX_DEPTH = 8;
export const MAX_ENTRIES = 256;
const MAX_SPEC = 32 * 1024;

/**
 * resultJSON is a result as JSON. Nothing (undefined, or a function or symbol,
 * which JSON leaves out) is null. A cycle, a BigInt or a throwing toJSON is an
 * error.
 * @param {unknown} value
 * @returns {string}
 */
export function resultJSON(value) {
  try {
    return jsonStringify(value) ?? "null";
  } catch (error) {
    throw new RunnerError("unserialised", `cannot write the result as JSON: ${describe(error).message}`, error);
  }
}

/**
 * plain copies the JSON part of a value: functions, symbols, cycles and
 * whatever cannot be read are left out.
 * @param {unknown} value
 */
export function plain(value, depth = 0, above = new Set()) {
  switch (typeof value) {
    case "string":
    case "boolean":
      return value;
    case "number":
      return Number.isFinite(value) ? value : undefined;
    case "bigint":
      return String(value);
    case "object":
      break;
    default:
      return undefined;
  }
  if (value === null) return null;
  if (depth > MAX_DEPTH || above.has(value)) return undefined;
  above.add(value);
  try {
    return Array.isArray(value)
      ? value.slice(0, MAX_ENTRIES).map((item) => plain(item, depth + 1, above) ?? null)
      : plainObject(value, depth, above);
  } catch {
    return undefined;
  } finally {
    above.delete(value);
  }
}

function plainObject(value, depth, above) {
  if (value instanceof RegExp || value instanceof Date) return String(value);
  if (ArrayBuffer.isView(value)) return undefined;
  const out = {};
  for (const key of Object.keys(value).slice(0, MAX_ENTRIES)) {
    const item = plain(value[key], depth + 1, above);
    if (item !== undefined) out[key] = item;
  }
  return out;
}

/**
 * spec is the description of a registration: the JSON part of it, or, where
 * that is very long, only the note that it was.
 * @param {unknown} value
 * @returns {object}
 */
export function spec(value) {
  const out = plain(value);
  if (out === undefined || out === null || typeof out !== "object" || Array.isArray(out)) return {};
  return jsonStringify(out).length > MAX_SPEC ? { truncated: true } : out;
}
