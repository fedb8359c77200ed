// The calls that are running: each is answered once, by its handler, by its
// time limit, or by being aborted.

import { RunnerError } from "./errors.mjs";
import { abort, clearTimer, min, newController, SafeMap, setTimer } from "./primordials.mjs";

/** The longest time that a timer takes, in ms. */
export const MAX_TIMER = 2 ** 31 - 1;

/**
 * @typedef {object} Run a running call
 * @property {string} id
 * @property {AbortController} controller
 * @property {(error: Error) => void} fail answers the call with an error
 * @property {NodeJS.Timeout | null} timer
 */

export class Calls {
  /** @type {Map<string, Run>} */
  #running = new SafeMap();

  /**
   * begin notes a call.
   * @param {string} id
   * @param {number} timeoutMs 0 is without a limit
   * @param {(error: Error) => void} fail answers the call with an error
   * @param {() => Error} [late] the error when the time is over: the handler
   *   then goes on. Without it the call is aborted.
   * @returns {Run}
   */
  begin(id, timeoutMs, fail, late) {
    const run = { id, controller: newController(), fail, timer: null };
    const over = () => (late ? this.finish(run, () => fail(late())) : this.abort(id, "the call's time is over"));
    if (timeoutMs > 0) run.timer = setTimer(over, min(timeoutMs, MAX_TIMER));
    this.#running.set(id, run);
    return run;
  }

  /**
   * finish answers a call, unless it was answered already.
   * @param {Run} run
   * @param {() => void} answer
   */
  finish(run, answer) {
    if (!this.isRunning(run)) return;
    this.#running.delete(run.id);
    if (run.timer) clearTimer(run.timer);
    answer();
  }

  /** @param {Run} run */
  isRunning(run) {
    return this.#running.get(run.id) === run;
  }

  /**
   * abort answers a call as cancelled and aborts its signal.
   * @param {string} id
   * @param {string} reason
   */
  abort(id, reason) {
    const run = this.#running.get(id);
    if (!run) return;
    this.finish(run, () => run.fail(new RunnerError("cancelled", reason)));
    try {
      abort(run.controller, reason);
    } catch {
      // The plugin changed what a signal is made of, and does not hear of it.
    }
  }

  /** @param {string} reason */
  abortAll(reason) {
    this.#running.forEach((_, id) => this.abort(id, reason));
  }
}
