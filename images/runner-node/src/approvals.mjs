// The callbacks of approvals that handlers asked for. Functions do not travel:
// they stay here until the host tells how the approval ended.

import { describe } from "./errors.mjs";
import { now, SafeMap, settle } from "./primordials.mjs";

/** How many callbacks are kept, and how long, in ms. */
const MAX_WAITING = 256;
const MAX_AGE = 60 * 60 * 1000;

export class Approvals {
  /** @type {Map<string, {tell: (decision: string) => unknown, since: number}>} oldest first */
  #waiting = new SafeMap();
  #warn;
  #clock;

  /**
   * @param {(message: string) => void} warn
   * @param {() => number} [clock] in ms
   */
  constructor(warn, clock = now) {
    this.#warn = warn;
    this.#clock = clock;
  }

  /**
   * remember keeps the onResolution of a handler's result, if there is one
   * that can be read.
   * @param {string} id of the hook call
   * @param {any} result
   */
  remember(id, result) {
    try {
      const approval = result?.requireApproval;
      if (typeof approval?.onResolution !== "function") return;
      this.#forget();
      this.#waiting.set(id, { tell: (decision) => approval.onResolution(decision), since: this.#clock() });
    } catch (error) {
      this.#warn(`requireApproval of hook call ${id}: ${describe(error).message}`);
    }
  }

  /**
   * resolved calls the callback of a hook call with the decision, once.
   * @param {{id: string, decision: string}} message
   */
  resolved({ id, decision }) {
    this.#forget(0);
    const entry = this.#waiting.get(id);
    if (!entry) return;
    this.#waiting.delete(id);
    const failed = (error) => this.#warn(`onResolution of hook call ${id}: ${describe(error).message}`);
    try {
      settle(entry.tell(decision), () => {}, failed);
    } catch (error) {
      failed(error);
    }
  }

  /** cancelAll is the end of all approvals: whoever was asked is gone. */
  cancelAll() {
    this.#waiting.forEach((_, id) => this.resolved({ id, decision: "cancelled" }));
  }

  /** Forgets what is old, and the oldest, so that there is room. */
  #forget(room = 1) {
    const oldest = this.#clock() - MAX_AGE;
    this.#waiting.forEach(({ since }, id) => {
      if (since <= oldest || this.#waiting.size + room > MAX_WAITING) this.#waiting.delete(id);
    });
  }
}
