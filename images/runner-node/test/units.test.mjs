import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ownConfig } from "../src/context.mjs";
import { cutBytes, describe } from "../src/errors.mjs";
import { Lifecycle } from "../src/lifecycle.mjs";
import { createLogger } from "../src/logger.mjs";
import { kindOf, nameOf } from "../src/registrars.mjs";
import { failedText, readyText } from "../src/report.mjs";
import { plain, resultJSON, spec } from "../src/serialise.mjs";
import { openKeyedStore, openSyncKeyedStore } from "../src/store.mjs";
import { subjects, token } from "../src/subject.mjs";
import { describeTool } from "../src/tools.mjs";
import { unavailable } from "../src/unavailable.mjs";

for (const [text, want] of [
  ["abc-DEF_09", "abc-DEF_09"], ["", "="], ["=", "=3D"], ["a.b", "a=2Eb"], ["@x/y z", "=40x=2Fy=20z"],
  [">", "=3E"], ["*", "=2A"], ["ü", "=C3=BC"], ["\0\n", "=00=0A"],
]) {
  test(`token(${JSON.stringify(text)})`, () => assert.equal(token(text), want));
}

test("subjects", () => {
  const names = subjects({ tenant: "default", plugin: "@a/b", generation: "12" });
  assert.equal(names.in("tool"), "ocmt.v1.default.=40a=2Fb.12.in.tool");
  assert.equal(names.out("hello"), "ocmt.v1.default.=40a=2Fb.12.out.hello");
  assert.equal(names.inbox, "ocmt.v1.default.=40a=2Fb.12.in.reply");
});

function logged(run) {
  const lines = [];
  run(createLogger("demo", (line) => lines.push(line)));
  assert.ok(lines.every((line) => line.endsWith("\n") && line.indexOf("\n") === line.length - 1));
  return lines.map((line) => JSON.parse(line));
}

test("the logger writes one JSON line per message", () => {
  const [first, second, third] = logged((log) => {
    log.info("two\nlines", 3, { a: 1, f() {} });
    log.child({ part: "x" }).warn("child", { b: 2n });
    log.error(new TypeError("bad"));
  });
  assert.match(first.time, /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  assert.deepEqual({ ...first, time: 0 }, { time: 0, level: "info", logger: "demo", msg: "two\nlines 3", fields: { a: 1 } });
  assert.deepEqual([second.level, second.msg, second.fields], ["warn", "child", { part: "x", b: "2" }]);
  assert.match(third.msg, /^TypeError: bad\n/);
});

test("a line of the logger is at most 16 KiB", () => {
  const lines = [];
  const log = createLogger("demo", (line) => lines.push(line));
  log.info("\u0001".repeat(100_000));
  log.info("x", { big: "ü".repeat(100_000) });
  log.info("y".repeat(16_000));
  assert.ok(lines.every((line) => Buffer.byteLength(line) <= 16 * 1024), lines.map((line) => line.length).join());
  assert.deepEqual(lines.map((line) => JSON.parse(line).truncated), [true, true, undefined]);
});

test("results are JSON or an error", () => {
  assert.equal(resultJSON({ a: [1, undefined] }), '{"a":[1,null]}');
  assert.equal(resultJSON(undefined), "null");
  assert.equal(resultJSON(() => 1), "null");
  assert.throws(() => resultJSON(1n), { code: "unserialised" });
});

test("plain keeps the JSON part of anything", () => {
  const cycle = { a: 1, at: new Date(0), re: /x/g, bytes: new Uint8Array(9), f() {}, s: Symbol("s"), nan: NaN };
  cycle.self = cycle;
  cycle.list = [cycle, undefined, 2];
  Object.defineProperty(cycle, "bad", { enumerable: false, get: () => 1 });
  assert.deepEqual(plain(cycle), { a: 1, at: String(new Date(0)), re: "/x/g", list: [null, null, 2] });
  assert.equal(plain({ get bad() { throw new Error("no"); } }), undefined);
  let deep = 1;
  for (let i = 0; i < 50_000; i++) deep = { deep };
  assert.ok(JSON.stringify(plain(deep)).length < 200);
});

test("a spec is an object of bounded size", () => {
  assert.deepEqual(spec(undefined), {});
  assert.deepEqual(spec([1]), {});
  assert.deepEqual(spec({ text: "x".repeat(40_000) }), { truncated: true });
});

test("anything thrown is described", () => {
  assert.deepEqual(describe("text"), { message: "text" });
  assert.deepEqual(describe(null), { message: "null" });
  assert.deepEqual(describe(Symbol("s")), { message: "Symbol(s)" });
  assert.deepEqual(describe({ code: 1 }), { message: 'thrown {"code":1}' });
  assert.deepEqual(describe(new Proxy({}, { get: () => { throw new Error("no"); } })), { message: "thrown value cannot be read" });
  assert.equal(describe(Object.assign(new Error("x"), { stack: "y".repeat(9999) })).stack.length, 4096);
});

for (const [args, want] of [
  [["status", () => {}], "status"],
  [[{ id: " a " }], "a"],
  [[{ path: "/x", auth: "plugin" }], "/x"],
  [[{ plugin: { id: "irc" } }], "irc"],
  [[() => {}, { commands: ["a", "b"] }], "a,b"],
  [[() => {}, { descriptors: [{ name: "c" }] }], "c"],
  [[() => {}], ""],
  [[null, undefined, 3], ""],
]) {
  test(`nameOf(${JSON.stringify(args)})`, () => assert.equal(nameOf(args), want));
}

test("kindOf", () => {
  assert.equal(kindOf("registerHttpRoute"), "httpRoute");
  assert.equal(kindOf("registerCli"), "cli");
  assert.equal(kindOf("onConversationBindingResolved"), "onConversationBindingResolved");
});

test("a namespace that is not available throws only when it is called", async () => {
  const known = unavailable("runtime.x", { yes: () => 1 });
  assert.equal(known.yes(), 1);
  assert.throws(() => known.a.b.c(), { message: "not available in this host: runtime.x.a.b.c" });
  assert.equal(await known, known);
  assert.equal(known[Symbol.iterator], undefined);
  assert.equal(JSON.stringify({ known }), "{}");
});

test("the plugin's own settings are in its configuration", () => {
  const config = { agents: 1, plugins: { entries: { demo: { enabled: true }, other: {} } } };
  assert.deepEqual(ownConfig({ plugin: "demo", config, pluginConfig: { a: 1 } }),
    { agents: 1, plugins: { entries: { demo: { enabled: true, config: { a: 1 } }, other: {} } } });
  assert.deepEqual(ownConfig({ plugin: "demo", config: null, pluginConfig: { a: 1 } }), { plugins: { entries: { demo: { config: { a: 1 } } } } });
  assert.equal(ownConfig({ plugin: "demo", config, pluginConfig: null }), config);
});

test("dispose calls the callbacks backwards and survives them", async () => {
  const lifecycle = new Lifecycle();
  const seen = [];
  lifecycle.onDispose(() => seen.push(1));
  lifecycle.onDispose(() => { throw new Error("no"); });
  lifecycle.onDispose(() => seen.push("removed"))();
  lifecycle.onDispose(async () => seen.push(lifecycle.signal.aborted));
  assert.throws(() => lifecycle.onDispose("x"), TypeError);
  await lifecycle.dispose((error) => seen.push(error.message), 2000);
  assert.deepEqual(seen, [true, "no", 1]);
});

test("dispose ends although a callback does not", async (t) => {
  const lifecycle = new Lifecycle();
  lifecycle.onDispose(() => new Promise(() => {}));
  await lifecycle.dispose(() => {}, 20);
});

function stateDir(t) {
  const dir = mkdtempSync(join(tmpdir(), "ocmt-"));
  t.after(() => rmSync(dir, { recursive: true }));
  return dir;
}

test("a keyed store keeps, counts, compares and forgets", async (t) => {
  const dir = stateDir(t);
  const store = openKeyedStore(dir, { namespace: "jobs", maxEntries: 2 });
  assert.equal(existsSync(join(dir, "keyed")), false, "nothing is written before it is needed");
  await store.register("a", { n: 1 });
  assert.equal(await store.registerIfAbsent("a", { n: 2 }), false);
  assert.equal(await store.registerIfAbsent("b", { n: 2 }), true);
  assert.deepEqual(await store.lookup("a"), { n: 1 });
  const seen = await store.observe("a");
  assert.equal(await store.update("a", ({ n }) => ({ n: n + 1 })), true);
  assert.equal((await store.compareAndApply("a", seen.comparison, { operation: "update", action: "set", value: 0 })).status, "conflict");
  const now = await store.observe("a");
  assert.deepEqual(await store.compareAndApply("a", now.comparison, { operation: "update", action: "set", value: "c" }), { status: "applied" });
  assert.deepEqual((await store.entries()).map(({ key, value }) => [key, value]), [["a", "c"], ["b", { n: 2 }]]);
  await store.register("z", 3);
  assert.deepEqual((await store.entries()).map(({ key }) => key), ["b", "z"], "the oldest makes room");
  assert.equal(await store.deleteIfEqual("z", 4), false);
  assert.equal(await store.consume("z"), 3);
  assert.equal(await store.lookup("z"), undefined);
  assert.equal(openSyncKeyedStore(dir, { namespace: "jobs" }).count(), 1, "every user of a namespace shares it");
  assert.equal(JSON.parse(readFileSync(join(dir, "keyed", "jobs.json"))).length, 1);
});

test("a keyed store refuses what it cannot keep", async (t) => {
  const dir = stateDir(t);
  for (const namespace of ["", "../up", "a/b", undefined, "x".repeat(200)]) {
    assert.throws(() => openSyncKeyedStore(dir, { namespace }), TypeError, String(namespace));
  }
  const store = openSyncKeyedStore(dir, { namespace: "full", maxEntries: 1, overflowPolicy: "reject-new" });
  store.register("a", 1, { ttlMs: 1 });
  assert.throws(() => store.register("", 1), TypeError);
  assert.throws(() => store.register("f", () => 1), TypeError);
  while (store.lookup("a") !== undefined);
  store.register("b", 1);
  assert.throws(() => store.register("c", 1), /full/);
  writeFileSync(join(dir, "keyed", "bad.json"), "{");
  assert.throws(() => openSyncKeyedStore(dir, { namespace: "bad" }).count(), /cannot read/);
});

test("reports stay within the host's bounds", () => {
  const diagnostics = Array.from({ length: 200 }, () => ({ level: "warn", message: "ü".repeat(1024) }));
  const error = { code: "load", message: "m", stack: "s" };
  const failed = failedText(error, diagnostics);
  assert.ok(Buffer.byteLength(failed) <= 64 * 1024);
  assert.ok(JSON.parse(failed).diagnostics.length > 10);
  assert.deepEqual(JSON.parse(failedText(error, [])), { type: "failed", error, diagnostics: [] });
  const hook = { kind: "hook", name: "x", entry: 0, form: "register", spec: { text: "y".repeat(1000) } };
  assert.throws(() => readyText({ registrations: Array(1025).fill(hook), diagnostics: [], loadMs: 1 }, Infinity), { code: "register" });
  const short = JSON.parse(readyText({ registrations: Array(1024).fill(hook), diagnostics, loadMs: 1 }, 1024 * 1024));
  assert.deepEqual([short.registrations.length, short.registrations[0].spec, short.diagnostics.length], [1024, {}, 1]);
});

test("a ready that is too long keeps what the pipeline needs of hooks", () => {
  const core = { event: "before_tool_call", priority: 1.5, timeoutMs: 5, registrar: "on" };
  const item = { kind: "hook", name: "before_tool_call", entry: 0, form: "register", spec: { ...core, matcher: ["exec"] } };
  const plain = { kind: "command", name: "c", entry: 0, form: "register", spec: { description: "x".repeat(1000) } };
  const short = JSON.parse(readyText({ registrations: [item, plain], diagnostics: [], loadMs: 1 }, 600));
  assert.deepEqual(short.registrations.map(({ spec }) => spec), [core, {}]);
});

for (const [text, max, want] of [["abc", 3, "abc"], ["abcd", 3, "…"], ["aüüü", 6, "aü…"], ["aüüü", 5, "a…"], ["😀😀", 7, "😀…"], ["😀😀", 6, "…"]]) {
  test(`cutBytes(${text}, ${max})`, () => assert.equal(cutBytes(text, max), want));
}

const caused = (message, cause) => new Error(message, { cause });
for (const [thrown, want] of [
  [caused("fetch failed", new Error("getaddrinfo EAI_AGAIN example.com")), "fetch failed: getaddrinfo EAI_AGAIN example.com"],
  [caused("cannot read: no file", new Error("no file")), "cannot read: no file"],
  [caused("a", caused("b", "c")), "a: b: c"],
  [new AggregateError([new Error("connect ECONNREFUSED"), new Error("other")]), "connect ECONNREFUSED"],
  [Object.create(null), "thrown {}"],
]) {
  test(`described with its causes: ${want}`, () => assert.equal(describe(thrown).message, want));
}

test("a cycle of causes ends", () => {
  const error = new Error("round");
  error.cause = caused("and", error);
  assert.equal(describe(error).message, "round: and");
});

const schema = { type: "object", properties: { q: { type: "string" } }, required: ["q"] };
for (const [what, parameters, want, told = 0] of [
  ["none", undefined, { type: "object" }],
  ["null", null, { type: "object" }],
  ["JSON Schema", schema, schema],
  ["symbols, as of TypeBox", { ...schema, [Symbol.for("TypeBox.Kind")]: "Object" }, schema],
  ["a library that writes it", { _def: {}, "~standard": {}, toJSONSchema: () => schema }, schema],
  ["Standard JSON Schema", { "~standard": { jsonSchema: { input: () => schema } } }, schema],
  ["a library that cannot", { _def: { typeName: "ZodObject" } }, { type: "object" }, 1],
  ["a library that fails", { "~standard": {}, toJSONSchema: () => { throw new Error("no"); } }, { type: "object" }, 1],
]) {
  test(`parameters: ${what}`, () => {
    const messages = [];
    assert.deepEqual(describeTool({ name: "t", parameters }, {}, (_, message) => messages.push(message)).parameters, want);
    assert.equal(messages.length, told, messages.join());
  });
}
