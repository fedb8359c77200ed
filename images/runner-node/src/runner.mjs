// The runner's side of the conversation with the host.

import { Calls } from "./calls.mjs";
import { RunnerError, wireError } from "./errors.mjs";
import { Hooks } from "./hooks.mjs";
import { HostCalls } from "./hostcalls.mjs";
import { loadPlugin } from "./loader.mjs";
import { min, NewPromise, now, ownJSON, readFullMessage, readMessage, residentMemory, setTimer } from "./primordials.mjs";
import { Registry } from "./registry.mjs";
import { failedText, MAX_READY, readyText, WIRE } from "./report.mjs";
import { Services } from "./services.mjs";
import { ToolCalls } from "./toolcalls.mjs";
import { Wishes } from "./wishes.mjs";

/** How long the host may take to answer, in ms, before it is asked again. */
const ANSWER_TIMEOUT = 10_000;
/** The pause before a question is repeated, in ms. */
const RETRY_DELAY = 100;
/** How long the host waits after a stop that does not say it, in ms. */
const DEFAULT_GRACE = 10_000;
/** Of that, at most this is for the callbacks of the plugin's end, and this for the answer, in ms. */
const MAX_DISPOSE = 2000;
const MARGIN = 500;

export class Runner {
  #bus;
  #subjects;
  #hello;
  #exit;
  #warn;
  /** @type {import("./loader.mjs").Plugin | null} */
  #plugin = null;
  /** @type {object | null} the load that has been acted on */
  #load = null;
  /** @type {Promise<{verb: string, text: string}> | null} the ready or failed message */
  #outcome = null;
  #epoch = 0;
  #serverId = "";
  #calls = new Calls();
  /** @type {ToolCalls} */
  #tools;
  /** @type {Hooks} */
  #hooks;
  /** @type {Services} */
  #services;
  /** @type {HostCalls} */
  #hostCalls;
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
    this.#hello = ownJSON({ type: "hello", wire: [WIRE], runner: version, node: process.versions.node, pid: process.pid });
    this.#exit = exit;
    this.#warn = warn;
  }

  /**
   * attach gives the runner its client, and subscribes.
   * @param {import("./nats.mjs").Client} bus
   */
  attach(bus) {
    this.#bus = bus;
    const [calls, warn] = [this.#calls, this.#warn];
    const out = (verb) => this.#subjects.out(verb);
    this.#tools = new ToolCalls({ bus, progressSubject: out("progress"), calls, warn });
    this.#hooks = new Hooks({ calls, warn });
    this.#hostCalls = new HostCalls({ bus, subject: out("host"), warn });
    this.#services = new Services({ bus, healthSubject: out("health"), hostCalls: this.#hostCalls, warn });
    const on = (verb, handler, read = readMessage) => bus.subscribe(this.#subjects.in(verb), (payload, reply) => {
      handler(read(payload), reply);
    });
    on("tool", (call, reply) => this.#tools.call(call, reply), readFullMessage);
    on("hook", (call, reply) => this.#hooks.call(call, reply));
    on("resolved", (message) => this.#hooks.resolved(message));
    on("service", (call, reply) => this.#services.call(call, reply));
    on("cancel", (message) => this.#onCancel(message));
    on("ping", (message, reply) => this.#onPing(message, reply));
    on("stop", (message, reply) => this.#onStop(message, reply));
  }

  /**
   * connected says hello and reports; it is called after every connect, for
   * the host may be a new one that knows nothing of this runner.
   */
  async connected() {
    const epoch = ++this.#epoch;
    if (this.#serverId && this.#serverId !== this.#bus.serverId) this.#hooks.cancelApprovals();
    this.#serverId = this.#bus.serverId;
    const load = await this.#ask("hello", this.#hello, epoch);
    if (!load) return;
    const again = this.#outcome !== null;
    const outcome = await this.#take(load);
    const known = outcome && (await this.#ask(outcome.verb, outcome.text, epoch));
    if (known && again) this.#services.repeatHealth();
  }

  /**
   * disconnected aborts the running calls: whoever made them is gone, or has
   * given them up with the connection. Services go on.
   * @param {string} reason
   */
  disconnected(reason) {
    this.#warn(`bus: ${reason}`);
    this.#calls.abortAll("the connection to the host was lost");
  }

  /** Asks until there is an answer, or another connection. */
  async #ask(verb, text, epoch) {
    while (epoch === this.#epoch && !this.#stopping) {
      try {
        return readMessage(await this.#bus.request(this.#subjects.out(verb), text, ANSWER_TIMEOUT));
      } catch (error) {
        this.#warn(`${verb}: ${error.message}`);
        await new NewPromise((done) => setTimer(done, RETRY_DELAY));
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
      const wishes = new Wishes((wish) => this.#hostCalls.wish(wish));
      this.#plugin = await loadPlugin(load, registry, {
        logged: (record) => this.#hostCalls.log(record),
        wish: (kind, target) => wishes.add(kind, target),
      });
      this.#serve(this.#plugin);
      return this.#ready(now() - started);
    } catch (error) {
      return { verb: "failed", text: failedText(wireError(error, "register"), registry.diagnostics) };
    }
  }

  /** In a load check only tools can be called, and no host does: nothing is started, no hook is run. */
  #serve(plugin) {
    this.#tools.plugin = plugin;
    if (plugin.load.mode === "discovery") return;
    this.#hostCalls.allow(plugin.load.host);
    this.#hooks.plugin = plugin;
    this.#services.use(plugin);
  }

  #ready(loadMs) {
    const { registrations, registry: { diagnostics } } = this.#plugin;
    const limit = min(this.#bus.maxPayload, MAX_READY);
    const text = readyText({ registrations, diagnostics, loadMs: Math.round(loadMs * 1000) / 1000 }, limit);
    return { verb: "ready", text };
  }

  #onCancel({ id }) {
    this.#calls.abort(id, "the call was cancelled");
  }

  #onPing(_, reply) {
    reply.send(ownJSON({ type: "pong", rss: residentMemory() }));
  }

  async #onStop({ reason, graceMs = DEFAULT_GRACE }, reply) {
    if (this.#stopping) return;
    this.#stopping = true;
    const disposeMs = min(MAX_DISPOSE, graceMs / 4);
    this.#calls.abortAll(`the plugin is being stopped: ${reason}`);
    try {
      await this.#services.stopAll(graceMs - disposeMs - min(MARGIN, graceMs / 10));
      await this.#plugin?.lifecycle.dispose((error) => this.#warn(`onDispose: ${wireError(error).message}`), disposeMs);
    } catch (error) {
      this.#warn(`stop: ${wireError(error).message}`); // the plugin changed what this is made of
    }
    reply.send(ownJSON({ type: "stopped" }));
    await this.#bus.close();
    this.#exit(0);
  }
}
