// What the plugin asks of the host, without waiting for the answer.

import { cut, describe, RunnerError } from "./errors.mjs";
import { byteLength, min, now, ownJSON, push, readMessage, SafeMap, shift, slice } from "./primordials.mjs";
import { withJSON } from "./reply.mjs";
import { resultJSON } from "./serialise.mjs";

/** How many calls are on their way, and how many wait, before one is dropped. */
const MAX_RUNNING = 8;
const MAX_WAITING = 256;
/** The largest call that the host takes, in bytes. */
const MAX_CALL = 64 * 1024;
/** How long the host may take to answer, in ms. */
const ANSWER_TIMEOUT = 10_000;
/** How many log lines the host is told a second, in the long run and at once. */
const LOGS_PER_SECOND = 20;
const MAX_LOGS = 100;
/** The longest message of a log line, in characters. */
const MAX_LOG = 4096;

export class HostCalls {
  #allowed = new SafeMap();
  #bus;
  #subject;
  #warn;
  #ids = 0;
  #running = 0;
  /** @type {{method: string, text: string, quiet: boolean}[]} */
  #waiting = [];
  #logs = MAX_LOGS;
  #filled = now();

  /**
   * @param {object} options
   * @param {import("./nats.mjs").Client} options.bus
   * @param {string} options.subject
   * @param {(message: string) => void} options.warn
   */
  constructor({ bus, subject, warn }) {
    this.#bus = bus;
    this.#subject = subject;
    this.#warn = warn;
  }

  /**
   * allow adds methods that the plugin may call, with or without "host.".
   * @param {string[]} [methods]
   */
  allow(methods = []) {
    for (let i = 0; i < methods.length; i++) {
      this.#allowed.set(slice(methods[i], 0, 5) === "host." ? methods[i] : `host.${methods[i]}`, true);
    }
  }

  /**
   * send asks the host for something. A refusal is a line in the log.
   * @param {string} method
   * @param {object} params
   */
  send(method, params) {
    try {
      if (!this.#allowed.has(method)) throw new RunnerError("not_granted", "it was not granted to this plugin");
      if (this.#waiting.length >= MAX_WAITING) throw new RunnerError("busy", "too many calls are waiting");
      const text = withJSON({ type: "host.call", id: `h${++this.#ids}`, method }, { params: resultJSON(params) });
      if (byteLength(text) > MAX_CALL) throw new RunnerError("unserialised", `it is larger than ${MAX_CALL} bytes`);
      push(this.#waiting, { method, text, quiet: false });
    } catch (error) {
      return this.#refused(method, error);
    }
    this.#next();
  }

  /**
   * log tells the host what the plugin's logger wrote. A plugin that logs more
   * than the host is to be bothered with is heard in its own log alone.
   * @param {{level: string, msg: string}} record
   */
  log({ level, msg }) {
    const time = now();
    this.#logs = min(MAX_LOGS, this.#logs + ((time - this.#filled) * LOGS_PER_SECOND) / 1000);
    this.#filled = time;
    if (this.#logs < 1 || this.#waiting.length >= MAX_WAITING) return;
    this.#logs--;
    this.#tell("host.log", { level, message: cut(msg, MAX_LOG) });
  }

  /**
   * wish tells the host what the plugin wished for, in learn mode.
   * @param {import("./wishes.mjs").Wish} wish
   */
  wish(wish) {
    if (this.#waiting.length < MAX_WAITING) this.#tell("host.wish", wish);
  }

  /** Sends what is allowed without a grant, and never refused loudly. */
  #tell(method, params) {
    push(this.#waiting, { method, text: ownJSON({ type: "host.call", id: `h${++this.#ids}`, method, params }), quiet: true });
    this.#next();
  }

  #next() {
    while (this.#running < MAX_RUNNING && this.#waiting.length > 0) void this.#ask(shift(this.#waiting));
  }

  async #ask({ method, text, quiet }) {
    this.#running++;
    try {
      const { error } = readMessage(await this.#bus.request(this.#subject, text, ANSWER_TIMEOUT));
      if (error && !quiet) this.#refused(method, error);
    } catch (error) {
      if (!quiet) this.#refused(method, error);
    }
    this.#running--;
    this.#next();
  }

  #refused(method, error) {
    const code = error.code ? `${error.code}: ` : "";
    this.#warn(`${method}: ${code}${describe(error).message.replaceAll("\n", " ")}`);
  }
}
