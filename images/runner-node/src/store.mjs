// api.runtime.state: small keyed stores, one JSON file per namespace in the
// plugin's state directory. Reads and writes are synchronous inside, so that
// every operation is atomic within the process.

import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const NAMESPACE = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/**
 * @typedef {{value: unknown, createdAt: number, expiresAt?: number, revision: number}} Row
 */

class Store {
  #file;
  #max;
  #reject;
  #ttl;
  /** @type {Map<string, Row> | null} */
  #rows = null;
  #revision = 0;

  /**
   * @param {string} file
   * @param {{maxEntries?: number, overflowPolicy?: string, defaultTtlMs?: number}} options
   */
  constructor(file, { maxEntries = Infinity, overflowPolicy, defaultTtlMs }) {
    this.#file = file;
    this.#max = maxEntries;
    this.#reject = overflowPolicy === "reject-new";
    this.#ttl = defaultTtlMs;
  }

  register(key, value, { ttlMs = this.#ttl, assertCurrent } = {}) {
    assertCurrent?.();
    this.#put(key, value, ttlMs);
  }

  registerIfAbsent(key, value, { ttlMs = this.#ttl } = {}) {
    if (this.#live(key)) return false;
    this.#put(key, value, ttlMs);
    return true;
  }

  update(key, change, { ttlMs = this.#ttl } = {}) {
    const next = change(this.lookup(key));
    if (next === undefined) return false;
    this.#put(key, next, ttlMs);
    return true;
  }

  lookup(key) {
    return clone(this.#live(key)?.value);
  }

  lookupMany(keys) {
    return keys.map((key) => ({ ok: true, value: this.lookup(key) }));
  }

  consume(key) {
    const value = this.lookup(key);
    this.delete(key);
    return value;
  }

  delete(key, { assertCurrent } = {}) {
    assertCurrent?.();
    const existed = this.#live(key) !== undefined;
    if (this.#load().delete(key)) this.#save();
    return existed;
  }

  deleteIf(key, predicate) {
    const row = this.#live(key);
    return row !== undefined && predicate(clone(row.value)) === true && this.delete(key);
  }

  deleteIfEqual(key, expected) {
    return this.deleteIf(key, (value) => value === expected);
  }

  entries() {
    return [...this.#load().keys()].filter((key) => this.#live(key)).map((key) => {
      const { value, createdAt, expiresAt } = this.#rows.get(key);
      return { key, value: clone(value), createdAt, ...(expiresAt === undefined ? {} : { expiresAt }) };
    });
  }

  entriesInKeyRange({ keyStartInclusive, keyEndExclusive, limit, order = "asc" }) {
    const rows = this.entries().filter(({ key }) => key >= keyStartInclusive && key < keyEndExclusive);
    rows.sort((a, b) => (a.key < b.key ? -1 : 1));
    return (order === "desc" ? rows.reverse() : rows).slice(0, limit);
  }

  count() {
    return this.entries().length;
  }

  clear() {
    this.#load().clear();
    this.#save();
  }

  observe(key) {
    const row = this.#live(key);
    return { value: clone(row?.value), comparison: String(row?.revision ?? "absent") };
  }

  compareAndApply(key, comparison, intent) {
    const current = this.observe(key);
    if (current.comparison !== comparison) return { status: "conflict", current };
    if (intent.action === "keep") return { status: "unchanged" };
    if (intent.action === "delete") return { status: this.delete(key) ? "applied" : "unchanged" };
    this.#put(key, intent.value, intent.ttlMs ?? this.#ttl);
    return { status: "applied" };
  }

  #put(key, value, ttlMs) {
    if (typeof key !== "string" || key === "") throw new TypeError("a key is a text that is not empty");
    const json = JSON.stringify(value);
    if (json === undefined) throw new TypeError(`the value of ${key} is not JSON`);
    const rows = this.#load();
    const live = this.#live(key);
    if (!live && rows.size >= this.#max) this.#makeRoom(rows);
    const now = Date.now();
    rows.set(key, {
      value: JSON.parse(json),
      createdAt: live?.createdAt ?? now,
      ...(ttlMs > 0 ? { expiresAt: now + ttlMs } : {}),
      revision: ++this.#revision,
    });
    this.#save();
  }

  #makeRoom(rows) {
    for (const key of [...rows.keys()]) this.#live(key);
    if (rows.size < this.#max) return;
    if (this.#reject) throw new Error(`the keyed store is full: ${this.#max} entries`);
    rows.delete(rows.keys().next().value);
  }

  /** The row of a key; one that has expired is removed. */
  #live(key) {
    const row = this.#load().get(key);
    if (row?.expiresAt === undefined || row.expiresAt > Date.now()) return row;
    this.#rows.delete(key);
    return undefined;
  }

  #load() {
    if (this.#rows) return this.#rows;
    let rows = [];
    try {
      rows = JSON.parse(readFileSync(this.#file, "utf8"));
    } catch (error) {
      if (error.code !== "ENOENT") throw new Error(`cannot read ${this.#file}: ${error.message}`, { cause: error });
    }
    this.#rows = new Map(rows);
    this.#revision = rows.reduce((max, [, row]) => Math.max(max, row.revision), 0);
    return this.#rows;
  }

  #save() {
    mkdirSync(join(this.#file, ".."), { recursive: true, mode: 0o700 });
    const next = `${this.#file}.new`;
    writeFileSync(next, JSON.stringify([...this.#rows]), { mode: 0o600 });
    renameSync(next, this.#file);
  }
}

function clone(value) {
  return value === undefined ? undefined : structuredClone(value);
}

const OPERATIONS = [
  "register", "registerIfAbsent", "update", "lookup", "lookupMany", "consume", "delete", "deleteIf",
  "deleteIfEqual", "entries", "entriesInKeyRange", "count", "clear", "observe", "compareAndApply",
];

/** The stores that are open, by file: every user of a namespace shares one. */
const stores = new Map();

function open(stateDir, options, wrap) {
  const namespace = options?.namespace;
  if (typeof namespace !== "string" || !NAMESPACE.test(namespace)) {
    throw new TypeError(`cannot open a keyed store: namespace ${JSON.stringify(namespace)} is not valid`);
  }
  const file = join(stateDir, "keyed", `${namespace}.json`);
  if (!stores.has(file)) stores.set(file, new Store(file, options));
  const store = stores.get(file);
  return Object.fromEntries(OPERATIONS.map((name) => [name, wrap((...args) => store[name](...args))]));
}

/**
 * openKeyedStore opens a store whose operations are asynchronous. The options
 * of whoever opens a namespace first hold.
 * @param {string} stateDir
 * @param {{namespace: string, maxEntries?: number, overflowPolicy?: string, defaultTtlMs?: number}} options
 */
export function openKeyedStore(stateDir, options) {
  return open(stateDir, options, (operation) => async (...args) => operation(...args));
}

/**
 * openSyncKeyedStore is openKeyedStore with operations that return at once.
 * @param {string} stateDir
 * @param {{namespace: string, maxEntries?: number, overflowPolicy?: string, defaultTtlMs?: number}} options
 */
export function openSyncKeyedStore(stateDir, options) {
  return open(stateDir, options, (operation) => operation);
}
