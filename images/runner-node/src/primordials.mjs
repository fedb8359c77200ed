// What the protocol path needs, taken before any plugin code runs. A plugin
// that alters a prototype then breaks itself and not the messages. This is
// robustness only: the host trusts nothing that comes from this process.

export const jsonParse = JSON.parse;
export const jsonStringify = JSON.stringify;
export const now = performance.now.bind(performance);
export const setTimer = setTimeout;
export const clearTimer = clearTimeout;
export const nextTick = process.nextTick.bind(process);
export const exit = process.exit.bind(process);
export const residentMemory = process.memoryUsage.rss.bind(process.memoryUsage);
export const byteLength = Buffer.byteLength;
export const random = Math.random;

const apply = Reflect.apply;
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
