// What a plugin in learn mode wished for: each wish is told once, and not many
// at a time.

import { now, SafeMap, setTimer } from "./primordials.mjs";

/** How many wishes are told of one run, and how long the target of one may be, in characters. */
const MAX_WISHES = 256;
const MAX_TARGET = 512;
/** How many are told at once, and the pause between two of those that follow, in ms: the host takes 50 calls a second. */
const BURST = 50;
const PAUSE = 50;

/** @typedef {{kind: "network" | "env" | "secret" | "config", target: string}} Wish */

export class Wishes {
  #tell;
  #seen = new SafeMap();
  /** When the last one was told, or will be, in ms. */
  #last = 0;

  /** @param {(wish: Wish) => void} tell */
  constructor(tell) {
    this.#tell = tell;
  }

  /**
   * add notes a wish.
   * @param {Wish["kind"]} kind
   * @param {string} target
   */
  add(kind, target) {
    const key = `${kind} ${target}`;
    if (target.length > MAX_TARGET || this.#seen.size >= MAX_WISHES || this.#seen.has(key)) return;
    this.#seen.set(key, true);
    if (this.#seen.size <= BURST) return this.#tell({ kind, target });
    const time = now();
    this.#last = Math.max(time, this.#last + PAUSE);
    setTimer(() => this.#tell({ kind, target }), this.#last - time);
  }
}
