// Hook calls from the host.

import { Approvals } from "./approvals.mjs";
import { RunnerError } from "./errors.mjs";
import { prepare } from "./hookforms.mjs";
import { settle, signalOf } from "./primordials.mjs";
import { answer, answerError } from "./reply.mjs";

export class Hooks {
  /** @type {import("./loader.mjs").Plugin | null} the plugin, once it is loaded and may be called */
  plugin = null;
  #calls;
  #approvals;

  /**
   * @param {object} options
   * @param {import("./calls.mjs").Calls} options.calls
   * @param {(message: string) => void} options.warn
   */
  constructor({ calls, warn }) {
    this.#calls = calls;
    this.#approvals = new Approvals(warn);
  }

  /**
   * call gives an event to one handler and answers. A handler that is late
   * goes on, and what comes of it is dropped.
   * @param {import("./hookforms.mjs").HookCall} call
   * @param {import("./nats.mjs").Reply} reply
   */
  call(call, reply) {
    const head = { type: "hook.result", id: call.id };
    const fail = (error) => answerError(reply, head, error);
    const hook = this.plugin?.registry.hook(call.handler);
    if (!hook) return fail(new RunnerError("unknown_handler", `registration ${call.handler} is no hook that can be called`));
    if (!hook.takes(call.payload)) return answer(reply, head, () => ({ result: "null" }));
    const late = () => new RunnerError("timed_out", `the handler of ${call.event} did not return within ${call.timeoutMs} ms`);
    const run = this.#calls.begin(call.id, call.timeoutMs, fail, late);
    let invocation;
    try {
      invocation = prepare(hook, call, this.plugin, signalOf(run.controller));
    } catch (error) {
      return this.#calls.finish(run, () => fail(error)); // nested too deep to be copied
    }
    const returned = (value) => this.#calls.finish(run, () => {
      if (answer(reply, head, () => invocation.outcome(value))) this.#approvals.remember(call.id, value);
    });
    const threw = (error) => this.#calls.finish(run, () => {
      const fields = invocation.failure(error);
      if (fields) answer(reply, head, () => fields);
      else fail(error);
    });
    this.#run(call, invocation, returned, threw);
  }

  #run(call, invocation, returned, threw) {
    try {
      const value = invocation.run();
      if (call.sync) returned(this.#now(call, value));
      else settle(value, returned, threw);
    } catch (error) {
      threw(error);
    }
  }

  /** The result of a handler that must not return a promise. */
  #now({ event }, value) {
    if (typeof value?.then !== "function") return value;
    value.then(undefined, () => {}); // it was told, by the warning, that nobody waits
    this.plugin.logger.warn(`a handler of ${event} returned a promise; it must return at once, and its result is ignored`);
    return undefined;
  }

  /**
   * resolved tells a handler how the approval ended that it asked for.
   * @param {{id: string, decision: string}} message
   */
  resolved(message) {
    this.#approvals.resolved(message);
  }

  /** cancelApprovals tells the handlers whose approval the host has forgotten. */
  cancelApprovals() {
    this.#approvals.cancelAll();
  }
}
