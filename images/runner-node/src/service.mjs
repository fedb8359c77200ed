// The life of one service of the plugin.

import { describe, RunnerError } from "./errors.mjs";
import { clearTimer, NewPromise, setTimer, settle } from "./primordials.mjs";
import { MAX_TIMER } from "./calls.mjs";

/** How long a stop waits for a start that has not returned, in ms. */
const START_GRACE = 1000;
/** How long the stop after a start that returned too late is waited for, in ms. */
const LATE_STOP = 5000;

/**
 * @typedef {object} Attempt one start, and the service that it started
 * @property {object} context
 * @property {import("./health.mjs").Health} health
 * @property {number} waiting how many calls wait for start to return
 * @property {boolean} up start has returned
 * @property {Promise<{error?: unknown}>} started how start ended
 * @property {(end: {error?: unknown}) => void} end ends the wait for it
 */

export class Service {
  #id;
  #service;
  #equip;
  #warn;
  /** @type {Attempt | null} the start that is, or is about to be, the running service */
  #attempt = null;
  /** @type {Promise<{error?: unknown}> | null} the stop that is under way */
  #stopping = null;

  /**
   * @param {object} options
   * @param {string} options.id
   * @param {{start: Function, stop?: Function}} options.service the plugin's
   * @param {() => {context: object, health: import("./health.mjs").Health}} options.equip makes what a start is given
   * @param {(message: string) => void} options.warn
   */
  constructor({ id, service, equip, warn }) {
    this.#id = id;
    this.#service = service;
    this.#equip = equip;
    this.#warn = warn;
  }

  /** Whether there is something to stop. */
  get active() {
    return this.#attempt !== null || this.#stopping !== null;
  }

  /**
   * start calls start(), unless the service runs, and resolves when that has
   * returned. A start() that is under way is waited for. One that is late
   * goes on: when it returns after all and nobody waits, stop() is called.
   * @param {number} timeoutMs 0 is without a limit
   */
  async start(timeoutMs) {
    if (this.#stopping && (await within(this.#stopping, timeoutMs)) === LATE) throw this.#late("stop", timeoutMs);
    const attempt = (this.#attempt ??= this.#begin());
    if (attempt.up) return;
    attempt.waiting++;
    const end = await within(attempt.started, timeoutMs);
    if (end === LATE) {
      attempt.waiting--;
      throw this.#late("start", timeoutMs);
    }
    if ("error" in end) throw end.error;
  }

  /**
   * stop calls stop(), once per start, and resolves when that has returned or
   * the time is over. A start() that has not returned is waited for, but not
   * long: it may never return.
   * @param {number} timeoutMs 0 is without a limit
   */
  async stop(timeoutMs) {
    if (!this.#stopping) {
      if (!this.#attempt) return;
      this.#stopping = this.#end(this.#attempt, timeoutMs);
    }
    const { error } = await this.#stopping;
    if (error !== undefined) throw error;
  }

  /** repeatHealth reports a failure again. */
  repeatHealth() {
    this.#attempt?.health.repeat();
  }

  #begin() {
    const attempt = { ...this.#equip(), waiting: 0, up: false };
    attempt.started = new NewPromise((done) => (attempt.end = done));
    const outcome = outcomeOf(() => this.#service.start(attempt.context));
    settle(outcome, (end) => ("error" in end ? this.#failed(attempt, end.error) : this.#returned(attempt)));
    return attempt;
  }

  #returned(attempt) {
    if (this.#attempt !== attempt) return; // stopped meanwhile
    attempt.up = true;
    attempt.end({});
    if (attempt.waiting > 0 || this.#stopping) return;
    this.#warn(`start of service ${this.#id} returned too late; the service is stopped`);
    this.stop(LATE_STOP).catch((error) => this.#warn(describe(error).message));
  }

  #failed(attempt, error) {
    attempt.health.revoke();
    if (this.#attempt === attempt) this.#attempt = null;
    const thrown = this.#threw("start", error);
    if (attempt.waiting === 0) this.#warn(thrown.message);
    attempt.end({ error: thrown });
  }

  #threw(op, error) {
    return new RunnerError("threw", `${op} of service ${this.#id}: ${describe(error).message}`, error);
  }

  #late(op, timeoutMs) {
    return new RunnerError("timed_out", `${op} of service ${this.#id} did not return within ${timeoutMs} ms`);
  }

  /** Ends an attempt; it never rejects. */
  async #end(attempt, timeoutMs) {
    try {
      if (!attempt.up) await within(attempt.started, timeoutMs > 0 ? Math.min(START_GRACE, timeoutMs / 2) : START_GRACE);
      if (this.#attempt !== attempt) return {}; // the start has failed: there is nothing to stop
      attempt.health.revoke();
      this.#attempt = null;
      attempt.end({ error: new RunnerError("cancelled", `service ${this.#id} was stopped before its start returned`) });
      const end = await within(outcomeOf(() => this.#service.stop?.(attempt.context)), timeoutMs);
      if (end === LATE) return { error: this.#late("stop", timeoutMs) };
      return "error" in end ? { error: this.#threw("stop", end.error) } : {};
    } finally {
      this.#stopping = null;
    }
  }
}

const LATE = Symbol("late");

/**
 * within resolves to what a promise that never rejects resolves to, or to
 * LATE when the time is over; 0 is without a limit.
 * @template T
 * @param {Promise<T>} promise
 * @param {number} timeoutMs
 * @returns {Promise<T | typeof LATE>}
 */
function within(promise, timeoutMs) {
  if (!(timeoutMs > 0)) return promise;
  return new NewPromise((done) => {
    const timer = setTimer(() => done(LATE), Math.min(timeoutMs, MAX_TIMER));
    settle(promise, (value) => {
      clearTimer(timer);
      done(value);
    }, done);
  });
}

/** outcomeOf calls a function and resolves to {} or to what it threw. */
function outcomeOf(call) {
  return new NewPromise((done) => {
    try {
      settle(call(), () => done({}), (error) => done({ error }));
    } catch (error) {
      done({ error });
    }
  });
}
