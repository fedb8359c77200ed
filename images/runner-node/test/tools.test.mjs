import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Host, loadMessage } from "./host.mjs";

/** @type {Host} */
let host;
before(async () => {
  host = await Host.start(loadMessage("tools", ["./index.mjs"]));
});
after(() => host.close());

for (const [kind, want] of [
  ["object", { a: [1, "größer", null] }],
  ["nothing", null],
  ["function", null],
]) {
  test(`result: ${kind}`, async () => {
    const answer = await host.call("result", { kind });
    assert.deepEqual(answer, { type: "tool.result", id: answer.id, result: want });
  });
}

for (const [kind, message] of [
  ["bigint", /BigInt/], ["cycle", /circular/], ["throwing", /not me/], ["throwing a proxy", /cannot be read/], ["large", /too large: message of 2097\d+ bytes exceeds the limit of 1048576/],
]) {
  test(`unserialised: ${kind}`, async () => {
    const { error, result } = await host.call("result", { kind });
    assert.equal(result, undefined);
    assert.equal(error.code, "unserialised");
    assert.match(error.message, message);
  });
}

for (const [kind, want] of [
  ["error", { message: "too far", name: "RangeError" }],
  ["text", { message: "just text" }],
  ["nothing", { message: "undefined" }],
  ["unreadable", { message: "thrown value cannot be read" }],
  ["proxy", { message: "thrown value cannot be read" }],
  ["deep", { message: "deep", name: "Error" }],
]) {
  test(`threw: ${kind}`, async () => {
    const { error } = await host.call("throw", { kind });
    const { stack, ...rest } = error;
    assert.deepEqual(rest, { code: "threw", ...want });
    assert.ok((stack ?? "").length <= 4096);
  });
}

for (const tool of ["hostile", "unsettled"]) {
  test(`a result that throws when it is asked anything: ${tool}`, async () => {
    assert.deepEqual((await host.call(tool)).error, { code: "threw", message: "thrown value cannot be read" });
  });
}

test("a very long message is cut", async () => {
  const { error } = await host.call("throw", { kind: "large" });
  assert.equal(error.message.length, 2048);
});

test("tools may be synchronous, use this, and get their call's id", async () => {
  assert.deepEqual((await host.call("sync", [1, 2])).result, [1, 2]);
  assert.equal((await host.call("throw-sync")).error.message, "at once");
  assert.equal((await host.call("this")).result, "this");
  assert.equal((await host.call("ids", {}, { id: "01J", context: { agentId: "main", toolCallId: "tc" } })).result, "tc");
  assert.equal((await host.call("ids", {}, { id: "01K" })).result, "01K");
  assert.equal((await host.call("ids", {}, { id: "01L", context: undefined })).result, "01L");
});

test("prepareArguments is applied", async () => {
  assert.deepEqual((await host.call("prepared", { n: "42" })).result, { n: 42 });
});

test("an unknown tool", async () => {
  const { error } = await host.call("no such tool");
  assert.deepEqual(error, { code: "unknown_tool", message: "no tool no such tool is registered" });
  assert.equal((await host.call("toString")).error.code, "unknown_tool");
});

test("progress is published while the call runs", async () => {
  assert.equal((await host.call("progress", {}, { id: "p1" })).result, "done");
  await host.ask("ping", { type: "ping" });
  assert.deepEqual(host.progress, [{ type: "progress", id: "p1", update: { percent: 50 } }, { type: "progress", id: "p1", update: null }]);
  await host.until(() => host.stderr.includes("progress of call p1: cannot write the result as JSON"));
});

test("a cancelled call is aborted and answered at once", async () => {
  const answer = host.call("wait", {}, { id: "c1" });
  await host.until(() => host.stdout.includes("waiting c1"));
  host.tell("cancel", { type: "cancel", id: "c1" });
  assert.deepEqual((await answer).error, { code: "cancelled", message: "the call was cancelled" });
  await host.until(() => host.stdout.includes("aborted c1"));
});

test("a cancelled call that does not listen is answered once", async () => {
  const answer = host.call("stubborn", {}, { id: "c2" });
  await host.until(() => host.stdout.includes("waiting c2"));
  host.tell("cancel", { type: "cancel", id: "c2" });
  host.tell("cancel", { type: "cancel", id: "c2" });
  host.tell("cancel", { type: "cancel", id: "unknown" });
  assert.equal((await answer).error.code, "cancelled");
  await host.call("release", { id: "c2" }); // a second answer would be an unexpected message
  assert.equal((await host.ask("ping", { type: "ping" })).type, "pong");
});

test("a call whose time is over is aborted", async () => {
  const { error } = await host.call("wait", {}, { timeoutMs: 20 });
  assert.deepEqual(error, { code: "cancelled", message: "the call's time is over" });
});

test("calls run at the same time", async () => {
  const first = host.call("stubborn", {}, { id: "s1" });
  const many = await Promise.all(Array.from({ length: 500 }, (_, n) => host.call("sync", { n }, { id: `m${n}` })));
  assert.deepEqual(many.map(({ id, result }) => [id, result.n]), Array.from({ length: 500 }, (_, n) => [`m${n}`, n]));
  await host.call("release", { id: "s1" });
  assert.equal((await first).result, "late");
});

test("a pong tells the memory", async () => {
  const pong = await host.ask("ping", { type: "ping" });
  assert.equal(pong.type, "pong");
  assert.ok(pong.rss > 1e6);
});

test("the plugin's log is JSON lines, its prints are untouched", async () => {
  await host.call("log", { level: "warn", text: "mind the gap", fields: { width: 3 } });
  await host.call("print");
  await host.until(() => host.stdout.includes("\nto stdout\n") && host.stderr.includes("to stderr\n"));
  const { time, ...line } = host.log.find(({ level }) => level === "warn");
  assert.deepEqual(line, { level: "warn", logger: "demo", msg: "mind the gap", fields: { width: 3 } });
});

test("a plugin that breaks the language's own functions can still be called", async (t) => {
  const broken = await Host.start(loadMessage("tools", ["./index.mjs"]));
  t.after(() => broken.close());
  assert.equal((await broken.call("pollute")).result, null);
  assert.deepEqual((await broken.call("sync", { a: 1 }, { timeoutMs: 1000 })).result, { a: 1 });
  assert.equal((await broken.call("throw", { kind: "error" })).error.name, "RangeError");
  assert.equal((await broken.ask("ping", { type: "ping" })).type, "pong");
});
