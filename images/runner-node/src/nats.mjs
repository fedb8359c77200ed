// A client of the NATS protocol over a unix socket, with what a runner needs
// and no more: subscribe, publish, request, and a connection that comes back
// when the host restarts.

import { byteLength, clearTimer, min, NewPromise, nextTick, ownJSON, random, SafeMap, setTimer, slice, toNumber } from "./primordials.mjs";
import { Parser } from "./parser.mjs";
import { dial } from "./socket.mjs";

/**
 * The delays between two attempts to connect, in ms, each altered by up to
 * JITTER of it: a host that returns waits for no plugin longer than 250 ms,
 * and all of its plugins do not come at once. Five attempts a second take less
 * than half a percent of a core.
 */
const BACKOFF_MIN = 20;
const BACKOFF_MAX = 200;
const JITTER = 0.25;
/** How long a socket that has failed may take to be closed, in ms. */
const CLOSE_TIMEOUT = 500;
/** Unsent bytes above which nothing more is read from the socket. */
const HIGH_WATER = 4 * 1024 * 1024;
/** The payload limit until the server has announced its own, in bytes. */
const DEFAULT_MAX_PAYLOAD = 1024 * 1024;
/** The subscription id of the reply inbox. */
const INBOX_SID = 0;

/** Nobody listens on the subject, or the connection went away. */
export class NoAnswerError extends Error {}

/** Where the answer to a message goes: whoever asked, over the connection it came by. */
export class Reply {
  #subject;
  #isOpen;
  #publish;

  /**
   * @param {string} subject empty when no answer is wanted
   * @param {() => boolean} isOpen whether the connection is still that one
   * @param {(subject: string, text: string) => void} publish
   */
  constructor(subject, isOpen, publish) {
    this.#subject = subject;
    this.#isOpen = isOpen;
    this.#publish = publish;
  }

  /**
   * send answers. When the connection is lost, so is the answer: another host
   * may use the subject for a question of its own. It throws a RangeError when
   * the text is too large.
   * @param {string} text
   */
  send(text) {
    if (this.#subject && this.#isOpen()) this.#publish(this.#subject, text);
  }
}

export class Client {
  /** The largest payload that the server takes, in bytes. */
  maxPayload = DEFAULT_MAX_PAYLOAD;
  /** Which server it is: one that was started anew has another id. */
  serverId = "";

  #path;
  #name;
  #version;
  #inbox;
  #onConnect;
  #onDown;
  /** @type {import("node:net").Socket | null} */
  #socket = null;
  #connected = false;
  #told = false;
  #closed = false;
  #corked = false;
  #delay = BACKOFF_MIN;
  #sids = 0;
  #requests = 0;
  /** @type {Map<number, {subject: string, handler: (payload: Buffer, reply: Reply) => void}>} */
  #subscriptions = new SafeMap();
  /** @type {Map<number, {done: (payload: Buffer) => void, failed: (error: Error) => void, timer: NodeJS.Timeout}>} */
  #pending = new SafeMap();

  /**
   * @param {object} options
   * @param {string} options.path the unix socket
   * @param {string} options.name shown in the server's list of connections
   * @param {string} options.version
   * @param {string} options.inbox the prefix of reply subjects
   * @param {() => void} options.onConnect called after every connect
   * @param {(reason: string) => void} [options.onDown] called when the connection is lost
   *   or cannot be made, and not again before there was one
   */
  constructor({ path, name, version, inbox, onConnect, onDown = () => {} }) {
    this.#path = path;
    this.#name = name;
    this.#version = version;
    this.#inbox = inbox;
    this.#onConnect = onConnect;
    this.#onDown = onDown;
  }

  /** connect starts to connect, and again after every loss until close. */
  connect() {
    const socket = dial(this.#path);
    let reason = "closed by the host";
    const parser = new Parser({
      info: (info) => this.#greet(socket, info),
      message: (subject, sid, payload, reply, status) => this.#dispatch(subject, sid, payload, reply, status),
      ping: () => this.#write("PONG\r\n"),
      pong: () => {},
      error: (text) => (reason = text),
    });
    this.#socket = socket;
    socket.on("data", (chunk) => {
      try {
        parser.feed(chunk);
      } catch (error) {
        socket.destroy(error);
      }
    });
    socket.on("drain", () => socket.resume());
    const over = () => this.#socket === socket && this.#lost(reason);
    socket.on("error", (error) => {
      reason = error.message;
      setTimer(over, CLOSE_TIMEOUT); // a plugin may have broken what closes it
    });
    socket.on("close", over);
  }

  /** close ends the connection for good, after what was written has left. */
  close() {
    this.#closed = true;
    return new NewPromise((done) => {
      if (!this.#socket || this.#socket.destroyed) return done(undefined);
      this.#socket.once("close", done);
      this.#uncork();
      this.#socket.end();
    });
  }

  /** Whether bytes wait to be sent, so that optional messages had better not be added. */
  get congested() {
    return !this.#connected || this.#socket.writableNeedDrain;
  }

  /**
   * subscribe listens on a subject, over every connection.
   * @param {string} subject
   * @param {(payload: Buffer, reply: Reply) => void} handler
   */
  subscribe(subject, handler) {
    const sid = ++this.#sids;
    this.#subscriptions.set(sid, { subject, handler });
    if (this.#connected) this.#write(`SUB ${subject} ${sid}\r\n`);
  }

  /**
   * publish sends a text. Without a connection it is dropped: whoever would
   * have read it is gone. It throws a RangeError when the text is too large.
   * @param {string} subject
   * @param {string} text
   * @param {string} [reply]
   */
  publish(subject, text, reply = "") {
    const size = byteLength(text);
    if (size > this.maxPayload) {
      throw new RangeError(`message of ${size} bytes exceeds the limit of ${this.maxPayload} bytes`);
    }
    if (!this.#connected) return;
    this.#write(`PUB ${subject}${reply && ` ${reply}`} ${size}\r\n${text}\r\n`);
  }

  /**
   * request publishes a text and resolves to the answer's payload. It rejects
   * with NoAnswerError when nobody listens, nobody answers in time, or the
   * connection is lost.
   * @param {string} subject
   * @param {string} text
   * @param {number} timeout in ms
   * @returns {Promise<Buffer>}
   */
  request(subject, text, timeout) {
    return new NewPromise((done, failed) => {
      if (!this.#connected) return failed(new NoAnswerError("not connected"));
      const id = ++this.#requests;
      const timer = setTimer(() => this.#fail(id, "no answer in time"), timeout);
      this.#pending.set(id, { done, failed, timer });
      try {
        this.publish(subject, text, `${this.#inbox}.${id}`);
      } catch (error) {
        this.#pending.delete(id);
        clearTimer(timer);
        failed(error);
      }
    });
  }

  #greet(socket, info) {
    if (info.max_payload > 0) this.maxPayload = info.max_payload;
    if (this.#connected) return; // a later INFO only updates the limits
    this.#connected = true;
    this.#told = false;
    this.serverId = `${info.server_id}`;
    const options = {
      verbose: false, pedantic: false, headers: true, no_responders: true, protocol: 1,
      lang: "ocmt-runner", version: this.#version, name: this.#name,
    };
    let text = `CONNECT ${ownJSON(options)}\r\nSUB ${this.#inbox}.* ${INBOX_SID}\r\n`;
    this.#subscriptions.forEach(({ subject }, sid) => (text += `SUB ${subject} ${sid}\r\n`));
    socket.write(text);
    this.#onConnect();
  }

  #dispatch(subject, sid, payload, reply, status) {
    this.#delay = BACKOFF_MIN; // a message: the server has accepted us
    if (sid !== INBOX_SID) return this.#subscriptions.get(sid)?.handler(payload, this.#replyTo(reply));
    const id = toNumber(slice(subject, this.#inbox.length + 1));
    if (status >= 400) return this.#fail(id, status === 503 ? "nobody listens" : `status ${status}`);
    const request = this.#pending.get(id);
    if (!request) return;
    this.#pending.delete(id);
    clearTimer(request.timer);
    request.done(payload);
  }

  #replyTo(subject) {
    const socket = this.#socket;
    return new Reply(subject, () => this.#socket === socket, (to, text) => this.publish(to, text));
  }

  #fail(id, reason) {
    const request = this.#pending.get(id);
    if (!request) return;
    this.#pending.delete(id);
    clearTimer(request.timer);
    request.failed(new NoAnswerError(reason));
  }

  #lost(reason) {
    this.#socket = null;
    this.#connected = false;
    this.#corked = false;
    this.#pending.forEach((_, id) => this.#fail(id, `the connection was lost: ${reason}`));
    if (this.#closed) return;
    if (!this.#told) this.#onDown(reason);
    this.#told = true;
    setTimer(() => this.#closed || this.connect(), this.#delay * (1 - JITTER + 2 * JITTER * random()));
    this.#delay = min(this.#delay * 2, BACKOFF_MAX);
  }

  /** Writes of one turn of the event loop leave together. */
  #write(text) {
    const socket = this.#socket;
    if (!this.#corked) {
      this.#corked = true;
      socket.cork();
      nextTick(() => this.#uncork());
    }
    socket.write(text);
    if (socket.writableLength > HIGH_WATER) socket.pause();
  }

  #uncork() {
    if (!this.#corked) return;
    this.#corked = false;
    this.#socket.uncork();
  }
}
