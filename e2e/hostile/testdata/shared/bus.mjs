// A plugin's own way to the host's bus, past the runner: the socket and the
// subjects are there for whoever shares the runner's process.
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

export { sleep };

const { OCMT_BUS, OCMT_TENANT, OCMT_PLUGIN, OCMT_GENERATION } = process.env;

/** A name as a token of a subject; a load check has another name than its plugin. */
const token = (name) => name.replaceAll(":", "=3A");

/** The prefix of the subjects of a plugin's generation. */
export const baseOf = (tenant, plugin, generation) => `ocmt.v1.${token(tenant)}.${token(plugin)}.${generation}`;
export const tenant = OCMT_TENANT;
export const plugin = OCMT_PLUGIN;
export const generation = Number(OCMT_GENERATION);
export const socketPath = OCMT_BUS;
export const base = baseOf(tenant, plugin, generation);

/** JSON with all but ASCII escaped: text goes over the socket byte by byte. */
const ascii = (json) => json.replace(/[^\0-\x7e]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** A connection that is read as text. */
export class Bus {
  heard = "";
  closed = false;

  /** Connects, and resolves once the host has greeted or hung up. */
  static async open(options = {}, path = OCMT_BUS) {
    const bus = new Bus();
    bus.socket = connect({ path });
    bus.socket.setEncoding("latin1");
    bus.socket.on("data", (text) => (bus.heard += text));
    bus.socket.on("error", (error) => (bus.error = error.code));
    bus.socket.on("close", () => (bus.closed = true));
    await bus.until(/INFO .*\r\n/);
    if (options) bus.send(`CONNECT ${JSON.stringify({ verbose: false, pedantic: false, headers: true, no_responders: true, protocol: 1, ...options })}\r\n`);
    return bus;
  }

  /** Whether the host has let the connection in. */
  get greeted() {
    return this.heard.startsWith("INFO ");
  }

  /** The error with which the host has ended the connection or refused something, if any. */
  get refusals() {
    return [...this.heard.matchAll(/-ERR '([^']*)/g)].map(([, text]) => text);
  }

  send(text) {
    if (!this.closed) this.socket.write(text, "latin1");
  }

  pub(subject, payload = "", reply = "") {
    this.send(`PUB ${subject}${reply && ` ${reply}`} ${Buffer.byteLength(payload, "latin1")}\r\n${payload}\r\n`);
  }

  /** Waits until what was heard fits, the connection is closed, or the time is up. */
  async until(pattern, ms = 5000) {
    for (const end = Date.now() + ms; !pattern.test(this.heard) && !this.closed && Date.now() < end; ) await sleep(5);
    return pattern.exec(this.heard);
  }

  /** Waits until the host has dealt with all that was sent. */
  async flush(ms = 5000) {
    const from = this.heard.length;
    this.send("PING\r\n");
    for (const end = Date.now() + ms; this.heard.indexOf("PONG\r\n", from) < 0 && !this.closed && Date.now() < end; ) await sleep(5);
  }

  /** Calls a function with the subject, the reply subject and the text of every message, and forgets what was heard. */
  each(take) {
    this.socket.on("data", () => {
      for (;;) {
        const head = /MSG (\S+) \S+ (?:(\S+) )?(\d+)\r\n/.exec(this.heard);
        if (!head) return;
        const from = head.index + head[0].length;
        const to = from + Number(head[3]);
        if (this.heard.length < to + 2) return;
        const text = this.heard.slice(from, to);
        this.heard = this.heard.slice(to + 2);
        take(head[1], head[2], text);
      }
    });
  }

  /** Asks the host, with a reply inbox of its own, and returns the answer or null. */
  async ask(verb, message, ms = 2000) {
    const inbox = `${base}.in.reply.own${Math.random().toString(36).slice(2)}`;
    this.send(`SUB ${inbox} 7${Math.floor(Math.random() * 1e6)}\r\n`);
    this.pub(`${base}.out.${verb}`, typeof message === "string" ? message : ascii(JSON.stringify(message)), inbox);
    const found = await this.until(new RegExp(`MSG ${inbox.replaceAll(".", "\\.")} \\S+ \\d+\\r\\n(.*)\\r\\n`), ms);
    return found && found[1] ? JSON.parse(found[1]) : null;
  }

  end() {
    this.socket.destroy();
  }

  /** Ends when the call that is under way has been answered: the end of a connection ends the calls of its plugin. */
  endLater() {
    setTimeout(() => this.end(), 1000);
  }
}

/** A tool of the document's form. */
export const tool = (name, execute, parameters = { type: "object" }) => ({ name, description: name, parameters, execute });

/** The tools of an attack whose connections end meanwhile: one that begins, and one that tells the outcome. */
export function background(run) {
  let outcome = null;
  return [
    tool("attack", async (params) => {
      setTimeout(() => run(params).then((value) => (outcome = value), (error) => (outcome = { error: String(error) })), 100);
      return { begun: "in the background" };
    }),
    tool("outcome", async () => outcome),
  ];
}
