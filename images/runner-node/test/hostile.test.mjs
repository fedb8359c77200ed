import assert from "node:assert/strict";
import { test } from "node:test";
import { ways } from "./fixtures/hostile/index.mjs";
import { Host, loadMessage } from "./host.mjs";

const params = { text: "größer", list: [1, { a: null }] };

/** What is the plugin's own in these: its values are written with the toJSON that it gave them. */
const WITH_ITS_OWN_JSON = new Set(["toJSON of everything", "toJSON throws"]);

async function works(host, way) {
  const same = await host.call("same", params);
  if (WITH_ITS_OWN_JSON.has(way)) assert.ok("result" in same !== "error" in same);
  else assert.deepEqual(same.result, params);
  assert.equal((await host.call("same", "text")).result, "text");
  const failed = await host.call("fail");
  assert.equal(failed.error.code, "threw");
  assert.equal((await host.call("none")).error.code, "unknown_tool");
  assert.equal((await host.call("wait", {}, { timeoutMs: 5 })).error.code, "cancelled");
  const waiting = host.call("wait", {}, { id: "to-be-cancelled" });
  host.tell("cancel", { type: "cancel", id: "to-be-cancelled" });
  const cancelled = await waiting;
  assert.deepEqual([cancelled.id, cancelled.error.code], ["to-be-cancelled", "cancelled"]);
  const pong = await host.ask("ping", { type: "ping" });
  assert.ok(pong.type === "pong" && pong.rss > 0);
  const hook = await host.hook(host.index("hook", "before_tool_call"), "before_tool_call", { params: "p" });
  assert.equal(hook.type, "hook.result");
  if (!WITH_ITS_OWN_JSON.has(way)) assert.deepEqual(hook.result, { params: "p" });
}

/** What Node itself does not survive: the process ends, and the host starts another. */
const FATAL = new Set(["arrays", "events", "sockets", "timers", "functions", "setters in all objects"]);

for (const way of ways.filter((way) => !FATAL.has(way))) {
  test(`the conversation goes on: ${way}`, { timeout: 30_000 }, async (t) => {
    const host = await Host.start(loadMessage("hostile", ["./index.mjs"]));
    t.after(() => host.close());
    assert.equal((await host.call("alter", { way })).result, way);
    await works(host, way);
    host.server.drop();
    await host.until(() => host.outcomes.length === 2);
    assert.deepEqual(host.hellos[1], host.hellos[0]);
    assert.deepEqual(host.outcomes[1], host.outcomes[0]);
    await works(host, way);
    assert.equal((await host.ask("stop", { type: "stop", reason: "test", graceMs: 2000 })).type, "stopped");
    assert.equal((await host.exited).signal, null);
  });
}

for (const way of FATAL) {
  test(`the process ends and says nothing wrong: ${way}`, { timeout: 30_000 }, async (t) => {
    const host = await Host.start(loadMessage("hostile", ["./index.mjs"]));
    t.after(() => host.close());
    assert.equal((await host.call("alter", { way })).result, way);
    await Promise.race([works(host, way), host.exited]);
    host.server.drop();
    const { code, signal } = await host.exited;
    assert.ok(signal === null && code > 0, `it ended with ${code}, ${signal}`);
    assert.deepEqual(host.outcomes.slice(1), []);
  });
}

test("what is something else each time it is looked at", { timeout: 30_000 }, async (t) => {
  const host = await Host.start(loadMessage("hostile", ["./odd.mjs"]));
  t.after(() => host.close());
  assert.equal(host.outcome.type, "ready");
  for (const { name, spec } of host.outcome.registrations) {
    assert.ok(typeof name === "string" && name === name.trim(), JSON.stringify(name));
    assert.equal(typeof spec.description, "string");
    assert.ok(["undefined", "string"].includes(typeof spec.label));
  }
  const names = host.outcome.registrations.map(({ name }) => name);
  assert.deepEqual(names.slice(0, 5), ["first-look", "blanks", "cyclic", "from-a-proxy", "\u001b[2Jescape"], "escapes are the host's to show or not");
  assert.equal((await host.call("blanks")).result, "called");
  assert.equal((await host.call("first-look")).error.code, "unknown_tool", "it has another name by now");

  assert.equal((await host.call("twice")).result, "first");
  assert.equal((await host.call("thenable-for-ever", {}, { timeoutMs: 20 })).error.code, "cancelled");
  assert.equal((await host.call("after-cancel", {}, { timeoutMs: 20 })).error.code, "cancelled");
  const answer = await host.call("id", { n: 1 }, { id: "mine" });
  assert.deepEqual([answer.type, answer.id, answer.result.id, answer.error], ["tool.result", "mine", "another", undefined]);
  assert.equal((await host.call("getter")).error.code, "unserialised");
  assert.equal((await host.call("raw")).result, "raw");
  assert.equal((await host.call("lone")).result, "\ud800\u2028\u0000\r\nPUB x 1\r\n");
  assert.equal((await host.call("flood")).result, "done");
  assert.ok(host.progress.length < 20_000, `${host.progress.length} updates were told`);
  assert.equal((await host.ask("ping", { type: "ping" })).type, "pong");
});
