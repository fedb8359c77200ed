// The life of a loaded plugin: a signal and callbacks for its end.

import { NewPromise, setTimer, settle } from "./primordials.mjs";

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
      for (let i = this.#callbacks.length - 1; i >= 0; i--) {
        try {
          await this.#callbacks[i]();
        } catch (error) {
          failed(error);
        }
      }
    };
    try {
      this.#controller.abort();
    } catch (error) {
      failed(error);
    }
    await new NewPromise((done) => {
      setTimer(done, timeoutMs);
      settle(run(), done);
    });
  }
}
