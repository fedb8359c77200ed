// The logger that plugins are given: one JSON line per message on stdout.
// What a plugin prints itself goes to stdout and stderr untouched.

import { cut, describe } from "./errors.mjs";
import { plain } from "./serialise.mjs";
import { byteLength, ownJSON } from "./primordials.mjs";

/** The longest line, in bytes of UTF-8 at most four per character. */
const MAX_LINE = 16 * 1024;

/**
 * createLogger makes a logger that writes lines to a function.
 * @param {string} name the "logger" of every line
 * @param {(line: string, record: {level: string, msg: string}) => void} [write]
 * @param {object} [bindings] added to every line's fields
 */
export function createLogger(name, write = (line) => process.stdout.write(line), bindings = {}) {
  const at = (level) => (...args) => {
    const record = recordOf(level, name, args, bindings);
    write(lineOf(record), record);
  };
  return {
    trace: at("debug"), debug: at("debug"), info: at("info"), warn: at("warn"),
    error: at("error"), fatal: at("error"),
    /** @param {object} more */
    child: (more) => createLogger(name, write, { ...bindings, ...more }),
  };
}

function recordOf(level, logger, args, bindings) {
  const texts = [];
  const fields = { ...bindings };
  for (const arg of args) {
    if (typeof arg === "string") texts.push(arg);
    else if (arg instanceof Error) texts.push(describe(arg).stack ?? describe(arg).message);
    else if (arg !== null && typeof arg === "object" && !Array.isArray(arg)) Object.assign(fields, plain(arg));
    else texts.push(String(plain(arg)));
  }
  const record = { time: new Date().toISOString(), level, logger, msg: texts.join(" ") };
  const rest = plain(fields);
  if (rest && Object.keys(rest).length > 0) record.fields = rest;
  return record;
}

function lineOf(record) {
  const line = ownJSON(record);
  if (byteLength(line) < MAX_LINE) return `${line}\n`;
  return `${ownJSON(shorten(record))}\n`;
}

/** An escaped character takes at most six bytes. */
function shorten({ time, level, logger, msg }) {
  return { time, level, logger, msg: cut(msg, Math.floor((MAX_LINE - 256) / 6)), truncated: true };
}
