// The life of a loaded plugin: a signal and callbacks for its end.

import { setTimer } from "./primordials.mjs";

export class Lifecycle {
  #controller = new AbortController();
  /** @type {(() => unknown)[]} */
  #callbacks = [];

  get signal() {
    return this.#controller.signal;
  }

  /**
   * onDispose has a function called at the end, the last one first.
   * @param {() => unknown} callback
   */
  onDispose(callback) {
    if (typeof callback !== "function") throw new TypeError("onDispose needs a function");
    this.#callbacks.push(callback);
    return () => {
      this.#callbacks = this.#callbacks.filter((other) => other !== callback);
    };
  }

  /**
   * dispose aborts the signal and calls the callbacks, for a bounded time.
   * @param {(error: unknown) => void} failed told of every callback that fails
   * @param {number} timeoutMs
   */
  async dispose(failed, timeoutMs) {
    const run = async () => {
      for (const callback of this.#callbacks.reverse()) {
        try {
          await callback();
        } catch (error) {
          failed(error);
        }
      }
    };
    this.#controller.abort();
    await Promise.race([run(), new Promise((done) => setTimer(done, timeoutMs))]);
  }
}
