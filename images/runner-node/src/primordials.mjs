// What the protocol path needs, taken before any plugin code runs. A plugin
// that alters a prototype or a global then breaks itself and not the messages.
// This is robustness only: the host trusts nothing that comes from this
// process, and a plugin that means to can speak on the socket itself.

export const jsonParse = JSON.parse;
export const jsonStringify = JSON.stringify;
export const now = performance.now.bind(performance);
export const setTimer = setTimeout;
export const clearTimer = clearTimeout;
export const nextTick = process.nextTick.bind(process);
export const residentMemory = process.memoryUsage.rss.bind(process.memoryUsage);
export const byteLength = Buffer.byteLength;
export const random = Math.random;
export const min = Math.min;
export const max = Math.max;
export const toNumber = Number;
export const isArray = Array.isArray;
export const objectKeys = Object.keys;
export const { apply, construct, defineProperty, getPrototypeOf, ownKeys, setPrototypeOf } = Reflect;
export const getOwnPropertyDescriptor = Object.getOwnPropertyDescriptor;
export const create = Object.create;
export const freeze = Object.freeze;
export const NewPromise = Promise;

/** uncurry makes a function of a method, whose this is the first argument. */
const uncurry = Function.prototype.bind.bind(Function.prototype.call);
const uncurryGetter = (prototype, name) => uncurry(getOwnPropertyDescriptor(prototype, name).get);

export const slice = uncurry(String.prototype.slice);
export const indexOf = uncurry(String.prototype.indexOf);
export const upperCase = uncurry(String.prototype.toUpperCase);
export const trim = uncurry(String.prototype.trim);
export const push = uncurry(Array.prototype.push);
export const shift = uncurry(Array.prototype.shift);
export const bytesIndexOf = uncurry(Buffer.prototype.indexOf);
export const bytesSlice = uncurry(Buffer.prototype.subarray);
export const latin1 = uncurry(Buffer.prototype.latin1Slice);
export const concatBytes = Buffer.concat;
const utf8Slice = uncurry(Buffer.prototype.utf8Slice);

/**
 * utf8 is the text of bytes, or of a part of them.
 * @param {Buffer} bytes
 */
export const utf8 = (bytes, start = 0, end = bytes.length) => utf8Slice(bytes, start, end);

/**
 * SafeMap is a map whose methods nobody can replace. It is gone through with
 * forEach: a loop would ask the prototypes of iterators.
 */
export const SafeMap = fixed(Map);

function fixed(Class) {
  const Fixed = class extends Class {};
  for (const name of ownKeys(Class.prototype)) {
    if (name !== "constructor") defineProperty(Fixed.prototype, name, getOwnPropertyDescriptor(Class.prototype, name));
  }
  setPrototypeOf(Fixed.prototype, null);
  freeze(Fixed.prototype);
  return Fixed;
}

const NewAbortController = AbortController;
const NewDOMException = DOMException;
export const newController = () => new NewAbortController();
export const signalOf = uncurryGetter(AbortController.prototype, "signal");
const abortController = uncurry(AbortController.prototype.abort);

/**
 * abort aborts a controller's signal with an AbortError.
 * @param {AbortController} controller
 * @param {string} reason
 */
export const abort = (controller, reason) => abortController(controller, new NewDOMException(reason, "AbortError"));

const runExit = process.exit.bind(process);
const reallyExit = process.reallyExit.bind(process);

/**
 * exit runs what waits for the end of the process, and ends it, whatever
 * becomes of that.
 * @param {number} code
 */
export function exit(code) {
  try {
    runExit(code);
  } finally {
    reallyExit(code);
  }
}

const promiseThen = Promise.prototype.then;
const promiseResolve = Promise.resolve.bind(Promise);

/**
 * settle calls one of the two functions once the value, promise or not, is
 * settled. A promise whose constructor throws has failed.
 * @param {unknown} value
 * @param {(value: unknown) => void} done
 * @param {(error: unknown) => void} [failed]
 */
export function settle(value, done, failed) {
  try {
    apply(promiseThen, promiseResolve(value), [done, failed]);
  } catch (error) {
    failed?.(error);
  }
}

/**
 * ownJSON writes a value of the runner's own as JSON. Unlike jsonStringify it
 * asks no toJSON, which a plugin may have put into every object.
 * @param {unknown} value
 * @returns {string | undefined}
 */
export function ownJSON(value) {
  if (value === null || typeof value !== "object") return jsonStringify(value);
  let text = "";
  if (isArray(value)) {
    for (let i = 0; i < value.length; i++) text += `${i > 0 ? "," : ""}${ownJSON(value[i]) ?? "null"}`;
    return `[${text}]`;
  }
  const keys = objectKeys(value);
  for (let i = 0; i < keys.length; i++) {
    const item = ownJSON(value[keys[i]]);
    if (item !== undefined) text += `${text === "" ? "" : ","}${jsonStringify(keys[i])}:${item}`;
  }
  return `{${text}}`;
}

/**
 * readFullMessage parses a message that holds all of its fields.
 * @param {Buffer} payload
 */
export const readFullMessage = (payload) => jsonParse(utf8(payload));

/**
 * readMessage parses a message. What it does not hold is not found in the
 * prototype of all objects either.
 * @param {Buffer} payload
 */
export function readMessage(payload) {
  const message = jsonParse(utf8(payload));
  if (message !== null && typeof message === "object") setPrototypeOf(message, null);
  return message;
}
