// Standard output and error. Node writes to a pipe without waiting: what
// nobody reads stays in memory, and the host may be away for long.

import { apply, min, nextTick, now } from "./primordials.mjs";

/** How much of one stream waits to be read, in bytes, before more is dropped. */
const MAX_UNREAD = 1024 * 1024;
/** How many lines of its own the runner writes a second, in the long run and at once. */
const WARNINGS_PER_SECOND = 1;
const MAX_WARNINGS = 50;

/**
 * boundOutput keeps the process within its memory, and alive, when nobody
 * reads what it prints. A stream is made when it is first used, as by Node.
 */
export function boundOutput() {
  for (const name of ["stdout", "stderr"]) {
    const { get } = Object.getOwnPropertyDescriptor(process, name);
    let stream;
    Object.defineProperty(process, name, {
      configurable: true, enumerable: true,
      get: () => {
        try {
          return (stream ??= bound(apply(get, process, [])));
        } catch {
          return undefined; // the plugin changed what streams are made of; Node looks here whenever a socket ends
        }
      },
    });
  }
}

/**
 * bound drops what is written to a stream while too much of it is unread. Then
 * write answers false, and its callback is called, as if it had been written.
 * @param {import("node:stream").Writable} stream
 * @param {number} [limit] in bytes
 */
export function bound(stream, limit = MAX_UNREAD) {
  const write = stream.write;
  let dropped = 0;
  stream.write = function (chunk, encoding, done) {
    if (!(stream.writableLength >= limit)) {
      if (dropped > 0) write.call(stream, `runner: ${dropped} writes were dropped, for nobody read them\n`);
      dropped = 0;
      return write.call(stream, chunk, encoding, done);
    }
    dropped++;
    const callback = typeof encoding === "function" ? encoding : done;
    if (typeof callback === "function") nextTick(callback);
    return false;
  };
  stream.on("error", () => {}); // a reader that is gone is no reason to end
  return stream;
}

/**
 * warner makes the function that writes the runner's own lines: not the same
 * one twice in a row, and not many.
 * @param {(line: string) => void} write
 * @param {() => number} [clock] in ms
 */
export function warner(write, clock = now) {
  let last = "";
  let left = MAX_WARNINGS;
  let filled = clock();
  return (message) => {
    const time = clock();
    left = min(MAX_WARNINGS, left + ((time - filled) * WARNINGS_PER_SECOND) / 1000);
    filled = time;
    if (message === last || left < 1) return;
    left--;
    last = message;
    write(`runner: ${message}\n`);
  };
}
