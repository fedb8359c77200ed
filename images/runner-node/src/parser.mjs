// The reading half of the NATS client protocol: bytes in, messages out,
// whatever the chunk borders.

import { bytesIndexOf, bytesSlice, concatBytes, indexOf, jsonParse, jsonStringify, latin1, push, slice, toNumber, upperCase, utf8 } from "./primordials.mjs";

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
      push(this.#parts, chunk);
      this.#held += chunk.length;
      if (this.#held < this.#wanted) return;
      chunk = concatBytes(this.#parts, this.#held);
      this.#parts = [];
      this.#held = 0;
    }
    let at = 0;
    while (at < chunk.length) {
      const next = this.#step(chunk, at);
      if (next < 0) return this.#hold(bytesSlice(chunk, at), -next);
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
    const eol = bytesIndexOf(chunk, "\r\n", at, "latin1");
    if (eol < 0) {
      const size = chunk.length - at;
      if (size > MAX_LINE) throw new Error("bus: control line too long");
      return -(size + 1);
    }
    const line = latin1(chunk, at, eol);
    const space = indexOf(line, " ");
    const verb = upperCase(space < 0 ? line : slice(line, 0, space));
    const rest = space < 0 ? "" : slice(line, space + 1);
    const start = eol + 2;
    switch (verb) {
      case "MSG":
        return this.#message(chunk, at, start, words(rest), false);
      case "HMSG":
        return this.#message(chunk, at, start, words(rest), true);
      case "PING":
        this.#sink.ping();
        return start;
      case "PONG":
        this.#sink.pong();
        return start;
      case "INFO":
        this.#sink.info(jsonParse(utf8(chunk, at + 5, eol)));
        return start;
      case "-ERR":
        this.#sink.error(rest[0] === "'" ? slice(rest, 1, -1) : rest);
        return start;
      case "+OK":
        return start;
    }
    throw new Error(`bus: unknown operation ${jsonStringify(slice(line, 0, 32))}`);
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
    const size = toNumber(args[args.length - 1]);
    const head = headers ? toNumber(args[args.length - 2]) : 0;
    const known = args.length === 2 + sizes || reply !== "";
    if (!known || !(size >= head && size <= MAX_MESSAGE)) throw new Error("bus: malformed message");
    const end = start + size + 2;
    if (end > chunk.length) return -(end - at);
    const status = headers ? toNumber(latin1(chunk, start + 9, start + 12)) || 0 : 0;
    this.#sink.message(args[0], toNumber(args[1]), bytesSlice(chunk, start + head, start + size), reply, status);
    return end;
  }
}

/** The words of a line, between single blanks. */
function words(line) {
  const out = [];
  for (let at = 0; ; ) {
    const end = indexOf(line, " ", at);
    push(out, end < 0 ? slice(line, at) : slice(line, at, end));
    if (end < 0) return out;
    at = end + 1;
  }
}
