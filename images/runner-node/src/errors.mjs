// Failures as they are told to the host: a code of the wire contract, a
// message, and what the thrown value says about itself.

import { byteLength, jsonStringify, slice } from "./primordials.mjs";

/** The longest message and stack that are reported, in characters. */
const MAX_MESSAGE = 2048;
const MAX_STACK = 4096;

/** A failure with a code of the wire contract. */
export class RunnerError extends Error {
  #own = true;

  /**
   * @param {string} code
   * @param {string} message
   * @param {unknown} [cause] what the plugin threw
   */
  constructor(code, message, cause) {
    super(message);
    this.code = code;
    this.cause = cause;
  }

  /**
   * is tells a RunnerError from what a plugin threw. Unlike instanceof it asks
   * nothing of the value: the traps of a proxy may throw.
   * @param {unknown} value
   */
  static is(value) {
    return value !== null && typeof value === "object" && #own in value;
  }
}

/**
 * cut shortens a text to a number of characters.
 * @param {string} text
 * @param {number} max
 */
export function cut(text, max) {
  return text.length <= max ? text : `${slice(text, 0, max - 1)}…`;
}

/**
 * cutBytes shortens a text to a number of bytes of UTF-8, at least 3.
 * @param {string} text
 * @param {number} max
 */
export function cutBytes(text, max) {
  if (byteLength(text) <= max) return text;
  const bytes = Buffer.from(text.slice(0, max));
  let end = max - 3; // "…" takes three
  while ((bytes[end] & 0xc0) === 0x80) end--; // in the middle of a character
  return `${bytes.toString("utf8", 0, end)}…`;
}

/** How many causes of an error are told with it. */
const MAX_CAUSES = 4;

/**
 * describe reads name, message and stack of anything that was thrown. The
 * message goes on with those of its causes, since many say nothing by
 * themselves ("fetch failed"). Getters and proxies of the plugin may throw in
 * turn; that is caught.
 * @param {unknown} thrown
 * @returns {{message: string, name?: string, stack?: string}}
 */
export function describe(thrown) {
  try {
    if (thrown === null || typeof thrown !== "object") return { message: cut(String(thrown), MAX_MESSAGE) };
    const { name, stack } = thrown;
    return {
      message: cut(messageOf(thrown), MAX_MESSAGE),
      ...(typeof name === "string" && name ? { name: cut(name, 128) } : {}),
      ...(typeof stack === "string" && stack ? { stack: cut(stack, MAX_STACK) } : {}),
    };
  } catch {
    return { message: "thrown value cannot be read" };
  }
}

function messageOf(thrown) {
  let text = typeof thrown.message === "string" ? thrown.message : `thrown ${inspect(thrown)}`;
  for (let error = thrown, i = 0; i < MAX_CAUSES; i++) {
    error = error.cause ?? error.errors?.[0]; // of an AggregateError the first says most
    if (error === undefined || error === null) break;
    const more = typeof error === "object" ? error.message : String(error);
    if (typeof more === "string" && !text.includes(more)) text += text ? `: ${more}` : more;
  }
  return text;
}

/**
 * wireError is the error of a message.
 * @param {unknown} error
 * @param {string} [code] the code when the error has none of its own
 */
export function wireError(error, code = "threw") {
  if (!RunnerError.is(error)) return { code, ...describe(error) };
  const cause = error.cause === undefined ? {} : describe(error.cause);
  return { code: error.code, ...cause, message: cut(error.message, MAX_MESSAGE) };
}

function inspect(value) {
  return jsonStringify(value) ?? typeof value;
}
