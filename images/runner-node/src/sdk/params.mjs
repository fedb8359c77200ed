// The SDK's readers of tool parameters. A parameter may be given in camelCase
// or in snake_case.

import * as coerce from "./coerce.mjs";

export class ToolInputError extends Error {
  status = 400;
  name = "ToolInputError";
}

function raw(params, key) {
  if (Object.hasOwn(params, key)) return params[key];
  const snake = key.replace(/([A-Z]+)([A-Z][a-z])/g, "$1_$2").replace(/([a-z0-9])([A-Z])/g, "$1_$2").toLowerCase();
  return Object.hasOwn(params, snake) ? params[snake] : undefined;
}

function orRequired(value, key, { required, label = key }) {
  if (value === undefined && required) throw new ToolInputError(`${label} required`);
  return value;
}

export function readStringParam(params, key, options = {}) {
  const value = raw(params, key);
  let text = typeof value === "string" ? value : undefined;
  if (options.trim !== false) text = text?.trim();
  if (text === "" && !options.allowEmpty) text = undefined;
  return orRequired(text, key, options);
}

export function readStringOrNumberParam(params, key, options = {}) {
  const value = raw(params, key);
  const text = Number.isFinite(value) ? String(value) : coerce.normalizeOptionalString(value);
  return orRequired(text, key, options);
}

export function readNumberParam(params, key, options = {}) {
  const value = raw(params, key);
  let number = coerce.asFiniteNumber(value);
  if (typeof value === "string") {
    number = options.strict ? coerce.parseStrictFiniteNumber(value) : coerce.asFiniteNumber(Number.parseFloat(value));
  }
  if (orRequired(number, key, options) === undefined) return undefined;
  if (options.positiveInteger) return coerce.asPositiveSafeInteger(number);
  if (options.nonNegativeInteger) return coerce.asSafeIntegerInRange(number, { min: 0 });
  return options.integer ? Math.trunc(number) : number;
}

/** A number that, when it is given, must be of a kind and in a range. */
function strictNumber(params, key, options, kind, accept) {
  const value = raw(params, key);
  if (value === undefined || value === null || (typeof value === "string" && value.trim() === "")) return undefined;
  const number = coerce.parseStrictFiniteNumber(value);
  if (number === undefined || !accept(number) || coerce.asFiniteNumberInRange(number, options) === undefined) {
    throw new ToolInputError(options.message ?? `${key} must be a ${kind}`);
  }
  return number;
}

export const readPositiveIntegerParam = (params, key, options = {}) =>
  strictNumber(params, key, options, "positive integer", (n) => Number.isSafeInteger(n) && n > 0);
export const readNonNegativeIntegerParam = (params, key, options = {}) =>
  strictNumber(params, key, options, "non-negative integer", (n) => Number.isSafeInteger(n) && n >= 0);
export const readFiniteNumberParam = (params, key, options = {}) =>
  strictNumber(params, key, options, "finite number", Number.isFinite);

export const readBooleanParam = (params, key) => {
  const value = raw(params, key);
  if (typeof value !== "string") return coerce.asBoolean(value);
  return { true: true, false: false }[value.trim().toLowerCase()];
};

export function readStringArrayParam(params, key, options = {}) {
  const values = coerce.normalizeSingleOrTrimmedStringList(raw(params, key));
  return orRequired(values.length > 0 ? values : undefined, key, options);
}

export function readReactionParams(params, { emojiKey = "emoji", removeKey = "remove", removeErrorMessage }) {
  const remove = params[removeKey] === true;
  const emoji = readStringParam(params, emojiKey, { required: true, allowEmpty: true });
  if (remove && !emoji) throw new ToolInputError(removeErrorMessage);
  return { emoji, remove, isEmpty: !emoji };
}

export const createActionGate = (actions) => (key, byDefault = true) => {
  const value = actions?.[key];
  return value === undefined ? byDefault : value !== false;
};
