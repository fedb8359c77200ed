// The reading half of the NATS client protocol: bytes in, messages out,
// whatever the chunk borders.

import { jsonParse, jsonStringify } from "./primordials.mjs";

/** The longest control line accepted, in bytes; nats-server's own limit. */
const MAX_LINE = 64 * 1024;
/** The largest message accepted, in bytes, whatever the server announces. */
const MAX_MESSAGE = 64 * 1024 * 1024;

/**
 * @typedef {object} Sink
 * @property {(info: object) => void} info
 * @property {(subject: string, sid: number, payload: Buffer, reply: string, status: number) => void} message
 * @property {() => void} ping
 * @property {() => void} pong
 * @property {(text: string) => void} error
 */

export class Parser {
  /** @type {Buffer[]} */
  #parts = [];
  #held = 0;
  #wanted = 0;
  #sink;

  /** @param {Sink} sink */
  constructor(sink) {
    this.#sink = sink;
  }

  /**
   * feed takes the next bytes of the stream. It throws on bytes that are not
   * the protocol; the connection is then of no more use.
   * @param {Buffer} chunk
   */
  feed(chunk) {
    if (this.#held > 0) {
      this.#parts.push(chunk);
      this.#held += chunk.length;
      if (this.#held < this.#wanted) return;
      chunk = Buffer.concat(this.#parts, this.#held);
      this.#parts = [];
      this.#held = 0;
    }
    let at = 0;
    while (at < chunk.length) {
      const next = this.#step(chunk, at);
      if (next < 0) return this.#hold(chunk.subarray(at), -next);
      at = next;
    }
  }

  /**
   * hold keeps an incomplete operation until so many of its bytes are there.
   * @param {Buffer} rest
   * @param {number} wanted
   */
  #hold(rest, wanted) {
    this.#parts = [rest];
    this.#held = rest.length;
    this.#wanted = wanted;
  }

  /**
   * step handles the operation that starts at an offset and returns the
   * offset after it, or, negated, how many bytes it needs.
   * @param {Buffer} chunk
   * @param {number} at
   */
  #step(chunk, at) {
    const eol = chunk.indexOf("\r\n", at, "latin1");
    if (eol < 0) {
      const size = chunk.length - at;
      if (size > MAX_LINE) throw new Error("bus: control line too long");
      return -(size + 1);
    }
    const line = chunk.latin1Slice(at, eol);
    const space = line.indexOf(" ");
    const verb = (space < 0 ? line : line.slice(0, space)).toUpperCase();
    const rest = space < 0 ? "" : line.slice(space + 1);
    const start = eol + 2;
    switch (verb) {
      case "MSG":
        return this.#message(chunk, at, start, rest.split(" "), false);
      case "HMSG":
        return this.#message(chunk, at, start, rest.split(" "), true);
      case "PING":
        this.#sink.ping();
        return start;
      case "PONG":
        this.#sink.pong();
        return start;
      case "INFO":
        this.#sink.info(jsonParse(chunk.utf8Slice(at + 5, eol)));
        return start;
      case "-ERR":
        this.#sink.error(rest.replace(/^'|'$/g, ""));
        return start;
      case "+OK":
        return start;
    }
    throw new Error(`bus: unknown operation ${jsonStringify(line.slice(0, 32))}`);
  }

  /**
   * @param {Buffer} chunk
   * @param {number} at where the operation starts
   * @param {number} start where its payload starts
   * @param {string[]} args subject, sid, [reply], [header size], size
   * @param {boolean} headers
   */
  #message(chunk, at, start, args, headers) {
    const sizes = headers ? 2 : 1;
    const reply = args.length === 3 + sizes ? args[2] : "";
    const size = Number(args.at(-1));
    const head = headers ? Number(args.at(-2)) : 0;
    const known = args.length === 2 + sizes || reply !== "";
    if (!known || !(size >= head && size <= MAX_MESSAGE)) throw new Error("bus: malformed message");
    const end = start + size + 2;
    if (end > chunk.length) return -(end - at);
    const status = headers ? Number(chunk.latin1Slice(start + 9, start + 12)) || 0 : 0;
    this.#sink.message(args[0], Number(args[1]), chunk.subarray(start + head, start + size), reply, status);
    return end;
  }
}
