// Tool calls from the host.

import { factoryContext, pluginContext } from "./context.mjs";
import { describe, RunnerError } from "./errors.mjs";
import { settle, signalOf } from "./primordials.mjs";
import { answer, answerError, withJSON } from "./reply.mjs";
import { resultJSON } from "./serialise.mjs";
import { invoke } from "./tools.mjs";

export class ToolCalls {
  /** @type {import("./loader.mjs").Plugin | null} the plugin, once it is loaded */
  plugin = null;
  #bus;
  #progressSubject;
  #calls;
  #warn;

  /**
   * @param {object} options
   * @param {import("./nats.mjs").Client} options.bus
   * @param {string} options.progressSubject
   * @param {import("./calls.mjs").Calls} options.calls
   * @param {(message: string) => void} options.warn
   */
  constructor({ bus, progressSubject, calls, warn }) {
    this.#bus = bus;
    this.#progressSubject = progressSubject;
    this.#calls = calls;
    this.#warn = warn;
  }

  /**
   * call calls a tool and answers.
   * @param {import("./tools.mjs").Invocation & {timeoutMs: number}} call
   * @param {import("./nats.mjs").Reply} reply
   */
  call(call, reply) {
    const head = { type: "tool.result", id: call.id };
    const fail = (error) => answerError(reply, head, error);
    const source = this.plugin?.registry.toolSource(call.tool);
    if (!source) return fail(new RunnerError("unknown_tool", `no tool ${call.tool} is registered`));
    call.context ??= {};
    const run = this.#calls.begin(call.id, call.timeoutMs, fail);
    const succeed = (value) => answer(reply, head, () => ({ result: resultJSON(value) }));
    let result;
    try {
      result = invoke(source, call, this.#contexts(call, run));
    } catch (error) {
      return this.#calls.finish(run, () => fail(error));
    }
    settle(
      result,
      (value) => this.#calls.finish(run, () => succeed(value)),
      (error) => this.#calls.finish(run, () => fail(error)),
    );
  }

  #contexts(call, run) {
    const { load, config, logger } = this.plugin;
    const signal = signalOf(run.controller);
    return {
      plugin: pluginContext(load, config, logger, call.context),
      factory: factoryContext(load, config, call.context, signal),
      signal,
      onUpdate: (update) => this.#progress(run, update),
    };
  }

  /** Interim results may be lost: they are dropped while the socket is full, and when they are no JSON. */
  #progress(run, update) {
    if (!this.#calls.isRunning(run) || this.#bus.congested) return;
    try {
      this.#bus.publish(this.#progressSubject, withJSON({ type: "progress", id: run.id }, { update: resultJSON(update) }));
    } catch (error) {
      this.#warn(`progress of call ${run.id}: ${describe(error).message}`);
    }
  }
}
