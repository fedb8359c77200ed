import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { fixtures, Host, loadMessage } from "./host.mjs";

async function start(t, more, options) {
  const host = await Host.start(loadMessage("tools", ["./index.mjs"], more), options);
  t.after(() => host.close());
  return host;
}

for (const [tool, code, stderr] of [["reject", 1, "nobody listens"], ["timer", 1, "in a timer"], ["exit", 7, ""]]) {
  test(`a plugin that ends the process: ${tool}`, async (t) => {
    const host = await start(t);
    void host.call(tool);
    assert.deepEqual(await host.exited, { code, signal: null });
    assert.ok(host.stderr.includes(stderr), host.stderr);
    assert.ok(host.stderr.length < 4096, "no more than the stack is printed");
  });
}

test("a blocked event loop answers afterwards", async (t) => {
  const host = await start(t);
  const spin = host.call("spin", { ms: 200 });
  const pong = await host.ask("ping", { type: "ping" });
  assert.equal(pong.type, "pong");
  assert.equal((await spin).result, null);
});

test("stop cancels, disposes, answers and exits with 0", async (t) => {
  const host = await start(t);
  const call = host.call("wait", {}, { id: "w" });
  await host.until(() => host.stdout.includes("waiting w"));
  const stopped = host.ask("stop", { type: "stop", reason: "disabled" });
  assert.deepEqual((await call).error, { code: "cancelled", message: "the plugin is being stopped: disabled" });
  assert.deepEqual(await stopped, { type: "stopped" });
  assert.deepEqual(await host.exited, { code: 0, signal: null });
  assert.deepEqual(host.log.map(({ msg }) => msg).slice(-3), ["ending", "aborted w", "disposed"].sort((a, b) => host.stdout.indexOf(a) - host.stdout.indexOf(b)));
});

test("stop works before and after a failed load", async (t) => {
  const host = await Host.start(loadMessage("fail", ["./throws.mjs"]));
  t.after(() => host.close());
  assert.deepEqual(await host.ask("stop", { type: "stop", reason: "load check" }), { type: "stopped" });
  assert.deepEqual(await host.exited, { code: 0, signal: null });
});

test("after a lost connection the runner reports again, and loads nothing twice", async (t) => {
  const host = await start(t);
  host.server.drop();
  await host.until(() => host.outcomes.length === 2);
  assert.equal(host.hellos.length, 2);
  assert.deepEqual(host.outcomes[1], host.outcomes[0]);
  assert.deepEqual((await host.call("sync", { again: true })).result, { again: true });
});

test("a host that wants another generation gets another process", async (t) => {
  const host = await start(t);
  host.load = { ...host.load, generation: 2 };
  host.server.drop();
  assert.deepEqual(await host.exited, { code: 1, signal: null });
  assert.match(host.stderr, /the host wants generation 2, this is 1/);
});

test("hello is repeated until somebody hears it", async (t) => {
  let heard = 0;
  const deaf = (publish) => (subject, payload, reply, connection) => {
    if (heard++ < 2) return connection.socket.write(`HMSG ${reply} 0 16 16\r\nNATS/1.0 503\r\n\r\n\r\n`);
    publish(subject, payload, reply, connection);
  };
  const host = await start(t, {}, { wrap: deaf });
  assert.equal(host.outcome.type, "ready");
  assert.equal(host.hellos.length, 1);
  assert.match(host.stderr, /hello: nobody listens/);
});

test("a host that answers nonsense is told so", async (t) => {
  const host = await start(t, { type: "lead" });
  assert.deepEqual([host.outcome.type, host.outcome.error.code], ["failed", "wire_version"]);
});

test("without its environment the runner says what it needs", () => {
  const main = process.env.OCMT_RUNNER ?? join(fixtures, "..", "..", "src", "main.mjs");
  const { status, stderr } = spawnSync(process.execPath, [main], { env: {}, encoding: "utf8" });
  assert.equal(status, 2);
  assert.match(stderr, /OCMT_BUS, OCMT_TENANT, OCMT_PLUGIN and OCMT_GENERATION must be set/);
});
