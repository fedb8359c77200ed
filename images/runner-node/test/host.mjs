// A host for tests: a server that speaks enough of the NATS protocol on a unix
// socket, and the host's side of the conversation with one runner process.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
export const fixtures = join(here, "fixtures");
const MAIN = process.env.OCMT_RUNNER ?? join(here, "..", "src", "main.mjs");
const BASE = "ocmt.v1.default.demo.1";

let servers = 0;

/** A server of the protocol: it routes nothing by itself. */
export class Server {
  connections = [];
  maxPayload = 1024 * 1024;
  #id;
  #server;

  /** @param {(subject: string, payload: string, reply: string, connection: object) => void} onPublish */
  constructor(onPublish) {
    this.dir = mkdtempSync(join(tmpdir(), "ocmt-"));
    this.path = join(this.dir, "bus.sock");
    this.onPublish = onPublish;
  }

  async listen() {
    this.#id = `test ${++servers}`;
    this.#server = createServer((socket) => this.#accept(socket)).listen(this.path);
    await once(this.#server, "listening");
    return this;
  }

  /** drop ends every connection; the listener stays. */
  drop() {
    for (const { socket } of this.connections.splice(0)) socket.destroy();
  }

  /** die ends the server; the next listen is another one's, at the same path. */
  async die() {
    this.drop();
    this.#server.close();
    await once(this.#server, "close");
  }

  async close() {
    this.drop();
    this.#server.close();
    rmSync(this.dir, { recursive: true, force: true });
  }

  #accept(socket) {
    const connection = { socket, subs: new Map(), connect: null };
    this.connections.push(connection);
    socket.on("error", () => {});
    socket.write(`INFO ${JSON.stringify({ server_id: this.#id, max_payload: this.maxPayload, headers: true })}\r\n`);
    let text = Buffer.alloc(0);
    socket.on("data", (chunk) => {
      text = Buffer.concat([text, chunk]);
      for (;;) {
        const eol = text.indexOf("\r\n");
        if (eol < 0) return;
        const [verb, ...args] = text.toString("utf8", 0, eol).split(" ");
        let end = eol + 2;
        if (verb === "PUB") {
          const size = Number(args.at(-1));
          if (text.length < end + size + 2) return;
          const payload = text.toString("utf8", end, end + size);
          end += size + 2;
          this.onPublish(args[0], payload, args.length === 3 ? args[1] : "", connection);
        } else if (verb === "CONNECT") connection.connect = JSON.parse(args.join(" "));
        else if (verb === "SUB") connection.subs.set(args[0], args[1]);
        else if (verb === "PING") socket.write("PONG\r\n");
        text = text.subarray(end);
      }
    });
  }

  /** send delivers a message to whoever subscribed to its subject. */
  send(subject, message, reply = "") {
    const payload = typeof message === "string" ? message : JSON.stringify(message);
    for (const { socket, subs } of this.connections) {
      for (const [pattern, sid] of subs) {
        if (pattern !== subject && !(pattern.endsWith(".*") && subject.startsWith(pattern.slice(0, -1)))) continue;
        socket.write(`MSG ${subject} ${sid}${reply && ` ${reply}`} ${Buffer.byteLength(payload)}\r\n${payload}\r\n`);
      }
    }
  }
}

/** The host's answer to hello for a plugin in a directory of fixtures. */
export function loadMessage(root, entries, more = {}) {
  return {
    type: "load", tenant: "default", plugin: "demo", generation: 1, mode: "full",
    root: root.startsWith("/") ? root : join(fixtures, root), entries,
    name: "@example/demo", version: "1.0.0", manifest: { id: "demo" },
    config: {}, pluginConfig: null, stateDir: tmpdir(), agentId: "main", ...more,
  };
}

/** One runner process and the conversation with it. */
export class Host {
  hellos = [];
  outcomes = [];
  progress = [];
  /** What services said of themselves, and what the plugin asked of the host. */
  health = [];
  hostCalls = [];
  /** What the plugin's logger wrote, as the host is told of it. */
  logged = [];
  /** hostAnswer is the rest of the answer to a host call, or null for none. */
  hostAnswer = () => ({ result: null });
  stdout = "";
  stderr = "";
  #replies = new Map();
  #waiting = [];
  #calls = 0;

  /** start runs a runner with a load message and waits for ready or failed. */
  static async start(load, options = {}) {
    const host = new Host();
    host.load = load;
    const published = (...message) => host.#published(...message);
    host.server = await new Server(options.wrap?.(published) ?? published).listen();
    Object.assign(host.server, options.server);
    host.#spawn(options);
    await host.until(() => host.outcomes.length > 0);
    host.outcome = host.outcomes[0];
    return host;
  }

  #spawn({ args = [], env = {} }) {
    const { PATH } = process.env;
    this.child = spawn(process.execPath, [...args, MAIN], {
      env: { PATH, HOME: this.server.dir, OCMT_TENANT: "default", OCMT_PLUGIN: "demo", OCMT_GENERATION: "1", OCMT_BUS: this.server.path, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.exited = once(this.child, "exit").then(([code, signal]) => {
      this.exit = { code, signal };
      this.#notify();
      return this.exit;
    });
    this.child.stdout.on("data", (data) => (this.stdout += data, this.#notify()));
    this.child.stderr.on("data", (data) => (this.stderr += data, this.#notify()));
  }

  #published(subject, payload, reply) {
    const message = JSON.parse(payload);
    if (subject === `${BASE}.out.hello`) {
      this.hellos.push(message);
      if (this.load) this.server.send(reply, this.load);
    } else if (subject === `${BASE}.out.ready` || subject === `${BASE}.out.failed`) {
      this.outcomes.push(message);
      this.server.send(reply, { type: "ack" });
    } else if (subject === `${BASE}.out.progress`) {
      this.progress.push(message);
    } else if (subject === `${BASE}.out.health`) {
      this.health.push(message);
    } else if (subject === `${BASE}.out.host`) {
      (message.method === "host.log" ? this.logged : this.hostCalls).push(message);
      const rest = this.hostAnswer(message);
      if (rest) this.server.send(reply, { type: "host.result", id: message.id, ...rest });
    } else if (this.#replies.has(subject)) {
      this.#replies.get(subject)(message);
      this.#replies.delete(subject);
    } else {
      throw new Error(`unexpected message on ${subject}`);
    }
    this.#notify();
  }

  #notify() {
    this.#waiting = this.#waiting.filter((check) => !check());
  }

  /** until waits for a condition that a message or output of the runner makes true. */
  until(condition) {
    return new Promise((done, failed) => {
      const check = () => {
        if (condition()) done();
        else if (this.exit && !condition()) failed(new Error(`the runner ended (${JSON.stringify(this.exit)}): ${this.stderr}`));
        else return false;
        return true;
      };
      if (!check()) this.#waiting.push(check);
    });
  }

  /** ask sends a message on a subject "in" and resolves to the answer. */
  ask(verb, message) {
    const reply = `${BASE}.reply.${++this.#calls}`;
    const answer = new Promise((done) => this.#replies.set(reply, done));
    this.server.send(`${BASE}.in.${verb}`, message, reply);
    return answer;
  }

  /** tell sends a message that is not answered. */
  tell(verb, message) {
    this.server.send(`${BASE}.in.${verb}`, message);
  }

  /** call calls a tool and resolves to its tool.result. */
  call(tool, params = {}, more = {}) {
    return this.ask("tool", { type: "tool.call", id: `call-${this.#calls + 1}`, tool, params, context: { agentId: "main" }, timeoutMs: 0, ...more });
  }

  /** hook gives an event to one handler and resolves to its hook.result. */
  hook(handler, event, payload = {}, more = {}) {
    return this.ask("hook", { type: "hook.call", id: `hook-${this.#calls + 1}`, handler, event, payload, context: { agentId: "main" }, timeoutMs: 0, ...more });
  }

  /** service starts or stops a service and resolves to its service.result. */
  service(service, op, timeoutMs = 5000) {
    return this.ask("service", { type: "service.call", id: `service-${this.#calls + 1}`, service, op, timeoutMs });
  }

  /** index finds the index of a registration. */
  index(kind, name) {
    return this.outcome.registrations.findIndex((item) => item.kind === kind && item.name === name);
  }

  /** The log lines that the plugin's logger wrote. */
  get log() {
    return this.stdout.split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
  }

  /** tool finds a registration. */
  registration(kind, name) {
    return this.outcome.registrations.find((item) => item.kind === kind && item.name === name);
  }

  /** close ends the runner, whatever its state. */
  async close() {
    this.child.kill("SIGKILL");
    await this.exited;
    await this.server.close();
  }
}
