// The runner's reports on a load, within the bounds that the host sets.

import { RunnerError } from "./errors.mjs";
import { coreSpec } from "./hookspec.mjs";
import { byteLength, ownJSON } from "./primordials.mjs";

/** The wire version that this runner speaks. */
export const WIRE = 1;
/** The bounds of the host for a ready and a failed message, in bytes. */
export const MAX_READY = 1024 * 1024;
const MAX_FAILED = 64 * 1024;
/** How many registrations the host takes. */
const MAX_REGISTRATIONS = 1024;

/**
 * readyText is the ready message. Where it would be too long, descriptions
 * are left out, but those of tools, which are needed to call them, and what
 * the pipeline needs to know of hooks.
 * @param {{registrations: object[], diagnostics: object[], loadMs: number}} report
 * @param {number} limit in bytes
 */
export function readyText({ registrations, diagnostics, loadMs }, limit) {
  if (registrations.length > MAX_REGISTRATIONS) {
    throw new RunnerError("register", `the plugin registers ${registrations.length} things, at most ${MAX_REGISTRATIONS} are allowed`);
  }
  const full = ownJSON({ type: "ready", registrations, diagnostics, loadMs });
  if (byteLength(full) <= limit) return full;
  const short = ownJSON({
    type: "ready",
    registrations: registrations.map(shorten),
    diagnostics: [{ level: "warn", message: "the descriptions of registrations are too long; only those of tools are kept" }],
    loadMs,
  });
  if (byteLength(short) <= limit) return short;
  throw new RunnerError("register", `the descriptions of the plugin's tools are longer than ${limit} bytes`);
}

function shorten(item) {
  if (item.kind === "tool") return item;
  return { ...item, spec: item.kind === "hook" ? coreSpec(item.spec) : {} };
}

/**
 * failedText is the failed message, with as many of the first diagnostics as
 * fit.
 * @param {object} error
 * @param {object[]} diagnostics
 */
export function failedText(error, diagnostics) {
  for (let count = diagnostics.length; ; count >>= 1) {
    const text = ownJSON({ type: "failed", error, diagnostics: diagnostics.slice(0, count) });
    if (count === 0 || byteLength(text) <= MAX_FAILED) return text;
  }
}
