import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fixtures, Host, loadMessage } from "./host.mjs";

const dir = join(fixtures, "..", "..", "..", "..", "bus", "wire", "testdata");
const golden = (name) => JSON.parse(readFileSync(join(dir, `${name}.json`), "utf8"));

/** The messages that the runner writes and those that it reads. */
const WRITTEN = [
  "hello", "ready", "failed", "tool.result", "tool.result-error", "progress", "pong", "stopped",
  "hook.result", "hook.result-payload", "hook.result-block", "hook.result-error",
  "service.result", "service.result-error", "service.health", "service.health-clear", "host.call", "host.call-wish",
];
const READ = [
  "load", "load-learn", "ack", "tool.call", "cancel", "ping", "stop",
  "hook.call", "hook.call-sync", "service.call", "approval.resolved", "host.result", "host.result-error",
];

test("every golden message has a side", () => {
  const files = readdirSync(dir).map((name) => name.replace(/\.json$/, "")).sort();
  assert.deepEqual(files, [...WRITTEN, ...READ].sort());
});

/** fits tells whether a message has the shape of another: the same keys, in order, with the same types. */
function fits(got, want, at) {
  assert.equal(kind(got), kind(want), `type of ${at}`);
  if (kind(want) !== "object") return;
  assert.deepEqual(Object.keys(got), Object.keys(want), `keys of ${at}`);
  for (const key of Object.keys(want)) if (!OPEN.has(key)) fits(got[key], want[key], `${at}.${key}`);
}

const kind = (value) => (Array.isArray(value) ? "array" : value === null ? "null" : typeof value);
/** Fields whose content is the plugin's. */
const OPEN = new Set(["result", "update", "parameters"]);

test("the conversation of the golden messages", async (t) => {
  const root = join(fixtures, "golden");
  const load = { ...golden("load"), root, entries: ["./index.mjs"], plugin: "weather", stateDir: "/state" };
  const host = await Host.start(load);
  t.after(() => host.close());

  const hello = host.hellos[0];
  fits(hello, golden("hello"), "hello");
  assert.deepEqual([hello.type, hello.wire, hello.node, hello.pid], ["hello", [1], process.versions.node, host.child.pid]);

  const ready = golden("ready");
  fits(host.outcome, ready, "ready");
  assert.deepEqual(host.outcome.registrations.map(({ kind, name, entry, form }) => ({ kind, name, entry, form })),
    ready.registrations.map(({ kind, name, entry, form }) => ({ kind, name, entry, form })));
  host.outcome.registrations.forEach((item, i) => fits(item, { ...ready.registrations[i], spec: item.spec }, `registrations[${i}]`));
  assert.deepEqual(host.outcome.registrations[0].spec, ready.registrations[0].spec);
  for (const [key, value] of Object.entries(ready.registrations[1].spec)) assert.deepEqual(host.outcome.registrations[1].spec[key], value);
  for (const item of host.outcome.diagnostics) fits(item, ready.diagnostics[0], "diagnostic");

  const call = golden("tool.call");
  const answer = await host.ask("tool", call);
  assert.deepEqual(answer, golden("tool.result"));

  const failure = await host.ask("tool", { ...call, params: { city: "Nowhere" } });
  const want = golden("tool.result-error");
  fits(failure, want, "tool.result");
  assert.deepEqual({ ...failure, error: { ...failure.error, stack: "" } }, { ...want, error: { ...want.error, stack: "" } });

  const waiting = host.ask("tool", { ...call, params: { city: "Waiting" } });
  await host.until(() => host.stdout.includes("waiting"));
  host.tell("cancel", golden("cancel"));
  assert.equal((await waiting).error.code, "cancelled");

  fits(await host.ask("ping", golden("ping")), golden("pong"), "pong");
  assert.deepEqual(await host.ask("stop", golden("stop")), golden("stopped"));
  assert.deepEqual(await host.exited, { code: 0, signal: null });
});

/** The golden error, whose stack is another everywhere. */
function fails(got, want) {
  fits(got, want, want.type);
  assert.deepEqual({ ...got, error: { ...got.error, stack: "" } }, { ...want, error: { ...want.error, stack: "" } });
}

test("the golden messages of hooks, services and host calls", async (t) => {
  const load = { ...golden("load"), root: join(fixtures, "golden"), entries: ["./index.mjs"], plugin: "weather", stateDir: "/state" };
  const host = await Host.start(load);
  t.after(() => host.close());

  host.hostAnswer = () => golden("host.result");
  const start = golden("service.call");
  assert.deepEqual(await host.ask("service", start), golden("service.result"));
  await host.until(() => host.hostCalls.length === 1 && host.health.length === 1);
  assert.deepEqual(host.hostCalls, [golden("host.call")]);
  assert.deepEqual(host.health, [golden("service.health")]);

  const call = golden("hook.call");
  assert.deepEqual(await host.ask("hook", call), golden("hook.result"));
  fails(await host.ask("hook", { ...call, payload: { params: { command: "fail" } } }), golden("hook.result-error"));
  const asked = await host.ask("hook", { ...call, payload: { params: { ask: true } } });
  assert.deepEqual(asked.result.requireApproval, { title: "May I?" });
  host.tell("resolved", golden("approval.resolved"));
  await host.until(() => host.health.length === 2);
  assert.deepEqual(host.health[1], golden("service.health-clear"));

  const failed = await host.ask("service", { ...start, op: "stop" });
  fails({ ...failed, error: { ...failed.error, message: "no such city" } }, golden("service.result-error"));
  assert.equal(failed.error.message, "stop of service poller: no such city");
  host.hostAnswer = () => golden("host.result-error");
  await host.ask("service", start);
  await host.until(() => host.stderr.includes("host.emit: not_granted: host.emit is not granted\n"));
});

test("the golden wish", async (t) => {
  const host = await Host.start({ ...golden("load-learn"), root: join(fixtures, "golden"), entries: ["./index.mjs"], plugin: "weather", stateDir: "/state" });
  t.after(() => host.close());
  await host.ask("service", golden("service.call"));
  await host.until(() => host.hostCalls.length === 2);
  assert.deepEqual(host.hostCalls, [golden("host.call"), golden("host.call-wish")]);
});

test("the golden results of the document's hooks", async (t) => {
  const host = await Host.start(loadMessage("hooks", ["./index.mjs"]));
  t.after(() => host.close());
  const call = { ...golden("hook.call-sync"), handler: host.index("hook", "agent:message:sync") };
  const ask = (payload) => host.ask("hook", { ...call, payload });
  assert.deepEqual(await ask({ do: "block error" }), golden("hook.result-block"));
  const { payload, ...rest } = await ask({ do: "change", text: "a" });
  const { payload: want, ...golds } = golden("hook.result-payload");
  assert.deepEqual([rest, payload.text], [golds, "a changed"]);
  assert.equal(typeof want, "object");
  assert.deepEqual(await ask({ do: "nothing" }), golds);
});

test("progress is the golden progress", async (t) => {
  const host = await Host.start(loadMessage("tools", ["./index.mjs"]));
  t.after(() => host.close());
  await host.call("progress", {}, { id: golden("progress").id });
  assert.deepEqual(host.progress[0], golden("progress"));
});

test("a failed load is the golden failed", async (t) => {
  const host = await Host.start(loadMessage("fail", ["./syntax.mjs"]));
  t.after(() => host.close());
  fits(host.outcome, golden("failed"), "failed");
  assert.deepEqual([host.outcome.error.code, host.outcome.error.name], ["load", "SyntaxError"]);
});
