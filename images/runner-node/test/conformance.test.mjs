// The plugins of the end-to-end tests, without a container around them.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fixtures, Host, loadMessage } from "./host.mjs";

const plugins = join(fixtures, "..", "..", "..", "..", "e2e", "testdata", "plugins");

async function start(t, name) {
  const id = `conformance-${name}`;
  const root = join(plugins, id);
  const stateDir = mkdtempSync(join(tmpdir(), "ocmt-"));
  const host = await Host.start(loadMessage(root, ["./index.js"], {
    manifest: JSON.parse(readFileSync(join(root, "openclaw.plugin.json"), "utf8")), stateDir,
    config: { agents: { defaults: { model: "x" } } }, env: { GRANTED: "yes" }, host: ["host.emit"],
  }));
  t.after(async () => {
    await host.close();
    rmSync(stateDir, { recursive: true });
  });
  assert.equal(host.outcome.type, "ready", JSON.stringify(host.outcome));
  assert.deepEqual(host.outcome.diagnostics, []);
  return { host, id, stateDir };
}

const result = async (host, tool, params) => (await host.call(tool, params)).result;

for (const name of ["seed-esm", "seed-cjs", "register-esm", "register-cjs"]) {
  test(`${name}: tools`, async (t) => {
    const { host } = await start(t, name);
    assert.deepEqual(await result(host, "echo", { text: "a" }), { text: "a" });
    assert.deepEqual(await result(host, "slow", { ms: 8 }), { waited: 8 });
    assert.equal(host.progress.length, name.startsWith("register") ? 4 : 0);
    assert.deepEqual(await result(host, "read", { path: "/nowhere" }), { error: "ENOENT" });
    assert.equal((await result(host, "read", { path: join(plugins, `conformance-${name}`, "package.json") })).text[0], "{");
    assert.deepEqual(await result(host, "env", { name: "GRANTED" }), { value: "yes" });
    assert.deepEqual(await result(host, "env", { name: "ABSENT" }), { value: null });
    assert.deepEqual(await result(host, "config", { path: "agents.defaults.model" }), { value: "x" });
    assert.deepEqual(await result(host, "config", { path: "a.b" }), { value: null });
    const server = createServer((_, answer) => answer.end("hello")).listen(0, "127.0.0.1");
    await once(server, "listening");
    const url = `http://127.0.0.1:${server.address().port}/`;
    assert.deepEqual(await result(host, "fetch", { url }), { status: 200, body: "hello" });
    server.close();
    server.closeAllConnections();
    await once(server, "close");
    assert.deepEqual(await result(host, "fetch", { url }), { error: "ECONNREFUSED" });
  });

  test(`${name}: the service`, async (t) => {
    const { host, stateDir } = await start(t, name);
    await result(host, "crash", { how: "fail-starts", times: 1 });
    assert.equal((await host.service("heart", "start")).error.message, "start of service heart: heart does not start, 0 more times");
    for (const op of ["start", "stop", "start"]) assert.equal((await host.service("heart", op)).error, undefined);
    assert.deepEqual(await result(host, "counter"), { starts: 2, stops: 1, running: true });
    await result(host, "crash", { how: "report", reason: "on purpose" });
    await host.until(() => host.health.length === 1);
    assert.deepEqual(host.health[0], { type: "service.health", service: "heart", failed: true, reason: "on purpose" });
    await result(host, "crash", { how: "clear" });
    await host.until(() => host.health.length === 2);
    await result(host, "emit", { event: "tick", payload: { n: 1 } });
    await host.until(() => host.hostCalls.length === 1);
    assert.deepEqual(host.hostCalls[0].params, { event: "tick", payload: { n: 1 }, scope: "operator.read" });
    assert.deepEqual(await host.ask("stop", { type: "stop", reason: "test" }), { type: "stopped" });
    await host.exited;
    assert.equal(readFileSync(join(stateDir, "service.log"), "utf8"), "start\nstop\nstart\nstop\n");
    assert.deepEqual(host.logged.slice(0, 2).map(({ params }) => params), [
      { level: "info", message: "heart start" }, { level: "info", message: "heart stop" },
    ]);
    assert.deepEqual(host.log.map(({ msg }) => msg), ["heart start", "heart stop", "heart start", "heart stop"]);
  });

  for (const [how, code] of [["exit", 3], ["reject", 1]]) {
    test(`${name}: crash by ${how}`, async (t) => {
      const { host } = await start(t, name);
      assert.deepEqual(await result(host, "crash", { how, code: 3 }), { how });
      assert.deepEqual(await host.exited, { code, signal: null });
    });
  }
}

for (const name of ["seed-esm", "seed-cjs"]) {
  test(`${name}: hooks`, async (t) => {
    const { host, id } = await start(t, name);
    const emit = (payload, more) => host.hook(host.index("hook", "agent:message:before"), "agent:message:before", payload, more);
    assert.deepEqual((await emit({ text: "hi", n: 1 })).payload, { text: `hi [seen by ${id}]`, n: 1 });
    assert.equal((await emit({ n: 1 })).payload, undefined);
    assert.deepEqual((await emit({ text: "a forbidden word" })).block, { reason: `${id} forbids this text` });
    assert.equal((await emit({ text: "hang-me" }, { timeoutMs: 20 })).error.code, "timed_out");
    assert.deepEqual((await result(host, "seen")).events[0], { text: "hi", n: 1 });
  });
}

for (const name of ["register-esm", "register-cjs"]) {
  test(`${name}: hooks`, async (t) => {
    const { host, id } = await start(t, name);
    const emit = (event, payload, more) => host.hook(host.index("hook", event), event, payload, more);
    assert.deepEqual((await emit("message_sending", { content: "hi" })).result, { content: `hi [seen by ${id}]` });
    assert.deepEqual((await emit("message_sending", { content: "forbidden" })).result, { cancel: true, cancelReason: `${id} forbids this text` });
    assert.equal((await emit("message_received", { content: "hello" })).result, null);
    const tool = (text, more) => emit("before_tool_call", { toolName: "echo", params: { text, n: 1 } }, more);
    assert.deepEqual((await tool("fine")).result, {});
    assert.deepEqual((await tool("rewrite-me")).result, { params: { text: "rewritten", n: 1 } });
    assert.deepEqual((await tool("block-me")).result, { block: true, blockReason: `${id} blocks this call` });
    assert.equal((await tool("hang-me", { timeoutMs: 20 })).error.code, "timed_out");
    const asked = await tool("ask-me", { id: "asked" });
    assert.deepEqual(asked.result.requireApproval, { title: "A call that asks", description: `${id} wants a person to look at: ask-me`, severity: "warning" });
    host.tell("resolved", { type: "approval.resolved", id: "asked", decision: "deny" });
    assert.deepEqual(await result(host, "seen"), { events: [{ content: "hello" }], resolutions: ["deny"] });
    const slow = host.call("slow", { ms: 60_000 }, { id: "s" });
    await host.ask("ping", { type: "ping" });
    host.tell("cancel", { type: "cancel", id: "s" });
    assert.equal((await slow).error.code, "cancelled");
    await host.until(() => host.stdout.includes("slow aborted"));
  });
}
