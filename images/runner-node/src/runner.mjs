// The runner's side of the conversation with the host.

import { factoryContext, pluginContext } from "./context.mjs";
import { RunnerError, wireError } from "./errors.mjs";
import { loadPlugin } from "./loader.mjs";
import { clearTimer, jsonParse, jsonStringify, now, residentMemory, setTimer, settle } from "./primordials.mjs";
import { Registry } from "./registry.mjs";
import { failedText, MAX_READY, readyText, WIRE } from "./report.mjs";
import { resultJSON } from "./serialise.mjs";
import { invoke } from "./tools.mjs";

/** How long the host may take to answer, in ms, before it is asked again. */
const ANSWER_TIMEOUT = 10_000;
/** The pause before a question is repeated, in ms. */
const RETRY_DELAY = 100;

export class Runner {
  #bus;
  #subjects;
  #version;
  #exit;
  #warn;
  /** @type {import("./loader.mjs").Plugin | null} */
  #plugin = null;
  /** @type {object | null} the load that has been acted on */
  #load = null;
  /** @type {Promise<{verb: string, text: string}> | null} the ready or failed message */
  #outcome = null;
  #epoch = 0;
  /** @type {Map<string, {controller: AbortController, timer: NodeJS.Timeout | null, reply: string}>} */
  #running = new Map();
  #stopping = false;

  /**
   * @param {object} options
   * @param {ReturnType<typeof import("./subject.mjs").subjects>} options.subjects
   * @param {string} options.version
   * @param {(code: number) => void} options.exit
   * @param {(message: string) => void} options.warn
   */
  constructor({ subjects, version, exit, warn }) {
    this.#subjects = subjects;
    this.#version = version;
    this.#exit = exit;
    this.#warn = warn;
  }

  /**
   * attach gives the runner its client, and subscribes.
   * @param {import("./nats.mjs").Client} bus
   */
  attach(bus) {
    this.#bus = bus;
    const on = (verb, handler) => bus.subscribe(this.#subjects.in(verb), (payload, reply) => {
      handler.call(this, jsonParse(payload.toString()), reply);
    });
    on("tool", this.#onTool);
    on("cancel", this.#onCancel);
    on("ping", this.#onPing);
    on("stop", this.#onStop);
  }

  /**
   * connected says hello and reports; it is called after every connect, for
   * the host may be a new one that knows nothing of this runner.
   */
  async connected() {
    const epoch = ++this.#epoch;
    const hello = { type: "hello", wire: [WIRE], runner: this.#version, node: process.versions.node, pid: process.pid };
    const load = await this.#ask("hello", jsonStringify(hello), epoch);
    if (!load) return;
    const outcome = await this.#take(load);
    if (outcome) await this.#ask(outcome.verb, outcome.text, epoch);
  }

  /** Asks until there is an answer, or another connection. */
  async #ask(verb, text, epoch) {
    while (epoch === this.#epoch && !this.#stopping) {
      try {
        return jsonParse((await this.#bus.request(this.#subjects.out(verb), text, ANSWER_TIMEOUT)).toString());
      } catch (error) {
        this.#warn(`${verb}: ${error.message}`);
        await new Promise((done) => setTimer(done, RETRY_DELAY));
      }
    }
    return null;
  }

  /** Loads once; a later load for the same generation is told the same again. */
  #take(load) {
    if (this.#load && (load.generation !== this.#load.generation || load.mode !== this.#load.mode)) {
      this.#warn(`the host wants generation ${load.generation}, this is ${this.#load.generation}`);
      this.#exit(1);
      return null;
    }
    this.#load ??= load;
    return (this.#outcome ??= this.#loadAndReport(load));
  }

  async #loadAndReport(load) {
    const started = now();
    const registry = new Registry();
    try {
      if (load.type !== "load") throw new RunnerError("wire_version", `the host answered hello with ${load.type}`);
      this.#plugin = await loadPlugin(load, registry);
      return this.#ready(now() - started);
    } catch (error) {
      return { verb: "failed", text: failedText(wireError(error, "register"), registry.diagnostics) };
    }
  }

  #ready(loadMs) {
    const { registrations, registry: { diagnostics } } = this.#plugin;
    const limit = Math.min(this.#bus.maxPayload, MAX_READY);
    const text = readyText({ registrations, diagnostics, loadMs: Math.round(loadMs * 1000) / 1000 }, limit);
    return { verb: "ready", text };
  }

  #onTool(call, reply) {
    const source = this.#plugin?.registry.toolSource(call.tool);
    if (!source) return this.#fail(call.id, reply, new RunnerError("unknown_tool", `no tool ${call.tool} is registered`));
    const controller = new AbortController();
    const timer = call.timeoutMs > 0
      ? setTimer(() => this.#abort(call.id, "the call's time is over"), Math.min(call.timeoutMs, 2 ** 31 - 1))
      : null;
    const run = { controller, timer, reply };
    this.#running.set(call.id, run);
    let result;
    try {
      result = invoke(source, call, this.#contexts(call, controller.signal));
    } catch (error) {
      return this.#finish(call.id, run, () => this.#fail(call.id, reply, error));
    }
    settle(
      result,
      (value) => this.#finish(call.id, run, () => this.#succeed(call.id, reply, value)),
      (error) => this.#finish(call.id, run, () => this.#fail(call.id, reply, error)),
    );
  }

  #contexts(call, signal) {
    const { load, config, logger } = this.#plugin;
    call.context ??= {};
    return {
      plugin: pluginContext(load, config, logger, call.context),
      factory: factoryContext(load, config, call.context, signal),
      signal,
      onUpdate: (update) => this.#progress(call.id, update),
    };
  }

  /** Answers a call once: not again after it was cancelled. */
  #finish(id, run, answer) {
    if (this.#running.get(id) !== run) return;
    this.#running.delete(id);
    if (run.timer) clearTimer(run.timer);
    answer();
  }

  #succeed(id, reply, value) {
    try {
      const head = jsonStringify({ type: "tool.result", id });
      this.#bus.publish(reply, `${head.slice(0, -1)},"result":${resultJSON(value)}}`);
    } catch (error) {
      const known = error instanceof RangeError ? new RunnerError("unserialised", `the result is too large: ${error.message}`) : error;
      this.#fail(id, reply, known);
    }
  }

  #fail(id, reply, error) {
    this.#bus.publish(reply, jsonStringify({ type: "tool.result", id, error: wireError(error) }));
  }

  /** Interim results may be lost: they are dropped while the socket is full, and when they are no JSON. */
  #progress(id, update) {
    if (!this.#running.has(id) || this.#bus.congested) return;
    try {
      const head = jsonStringify({ type: "progress", id });
      this.#bus.publish(this.#subjects.out("progress"), `${head.slice(0, -1)},"update":${resultJSON(update)}}`);
    } catch (error) {
      this.#warn(`progress of call ${id}: ${error.message}`);
    }
  }

  #onCancel({ id }) {
    this.#abort(id, "the call was cancelled");
  }

  #abort(id, reason) {
    const run = this.#running.get(id);
    if (!run) return;
    this.#finish(id, run, () => this.#fail(id, run.reply, new RunnerError("cancelled", reason)));
    run.controller.abort(new DOMException(reason, "AbortError"));
  }

  #onPing(_, reply) {
    this.#bus.publish(reply, jsonStringify({ type: "pong", rss: residentMemory() }));
  }

  async #onStop({ reason }, reply) {
    if (this.#stopping) return;
    this.#stopping = true;
    for (const id of [...this.#running.keys()]) this.#abort(id, `the plugin is being stopped: ${reason}`);
    await this.#plugin?.lifecycle.dispose((error) => this.#warn(`onDispose: ${wireError(error).message}`));
    this.#bus.publish(reply, jsonStringify({ type: "stopped" }));
    await this.#bus.close();
    this.#exit(0);
  }
}
