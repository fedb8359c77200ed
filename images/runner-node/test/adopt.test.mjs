// The host dies and another one listens at the same path: the runner is
// adopted, with what the plugin has in memory.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Host, loadMessage } from "./host.mjs";

/** How long a runner may take to come back, in ms, and some for a busy machine. */
const BACK = 250;
const PATIENCE = 5000;

async function start(t, root, more, options) {
  const host = await Host.start(loadMessage(root, ["./index.mjs"], more), options);
  t.after(() => host.close());
  return host;
}

/** replace has the host die, stay away and come back as another one. */
async function replace(host, awayMs = 0) {
  const reports = host.outcomes.length;
  await host.server.die();
  await sleep(awayMs);
  await host.server.listen();
  const since = performance.now();
  await host.until(() => host.outcomes.length > reports);
  return performance.now() - since;
}

test("a runner is back soon, however long the host was away", async (t) => {
  const host = await start(t, "tools");
  const before = host.outcomes[0];
  const took = [];
  for (const away of [0, 1500, 700, 400]) took.push(await replace(host, away));
  assert.ok(Math.min(...took) <= BACK && Math.max(...took) <= PATIENCE, `it took ${took} ms`);
  assert.deepEqual(host.outcomes, Array(5).fill(before));
  assert.deepEqual(new Set(host.hellos.map(({ pid }) => pid)), new Set([host.child.pid]));
  assert.equal((await host.call("sync", "still there")).result, "still there");
});

test("a lost host costs no CPU and one line", async (t) => {
  const host = await start(t, "tools");
  await host.server.die();
  await sleep(500); // past the first attempts
  const before = cpuMs(host.child.pid);
  await sleep(2000);
  const used = cpuMs(host.child.pid) - before;
  assert.ok(used < 100, `${used} ms of CPU in 2 s`);
  assert.equal(host.stderr, "runner: bus: closed by the host\n");
  await host.server.listen();
});

/** The CPU time of all threads of a process, in ms. */
function cpuMs(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

test("calls that are under way are aborted, and never answered", async (t) => {
  const host = await start(t, "tools");
  void host.call("wait", {}, { id: "w" });
  void host.call("stubborn", {}, { id: "s" });
  await host.until(() => host.stdout.includes("waiting w") && host.stdout.includes("waiting s"));
  await host.server.die();
  await host.until(() => host.stdout.includes("aborted w"));
  await host.server.listen();
  await host.until(() => host.outcomes.length === 2);
  // An answer to the old host would be an unexpected message to the new one.
  const strays = [];
  const { onPublish } = host.server;
  host.server.onPublish = (subject, ...rest) => (/call-1|reply\.[12]$/.test(subject) ? strays.push(subject) : onPublish(subject, ...rest));
  await host.call("release", { id: "s" });
  assert.equal((await host.call("sync", 1)).result, 1);
  assert.deepEqual(strays, []);
  assert.equal(host.exit, undefined);
});

test("a running service is not started twice, and its failure is told to the new host", async (t) => {
  const host = await start(t, "services");
  assert.equal((await host.service("plain", "start")).error, undefined);
  await host.call("report", { reasons: ["gone"] });
  await host.until(() => host.health.length === 1);
  await host.call("calls");
  await replace(host);
  await host.until(() => host.health.length === 2);
  assert.equal((await host.service("plain", "start")).error, undefined);
  await host.until(() => host.health.length === 3);
  assert.deepEqual(host.health[2], { type: "service.health", service: "plain", failed: true, reason: "gone" });
  assert.deepEqual((await host.call("calls")).result, []);
  assert.equal((await host.service("plain", "stop")).error, undefined);
  await replace(host);
  assert.equal((await host.service("plain", "start")).error, undefined);
  assert.deepEqual((await host.call("calls")).result, ["stop  plain ", "start  plain "]);
});

test("the answer to a start is not given to another host", async (t) => {
  const host = await start(t, "services");
  void host.service("loop", "start", 600);
  await host.call("calls");
  await replace(host);
  await sleep(700); // the old call's time is over: its answer would fail the test
  assert.equal((await host.call("calls")).error, undefined);
});

test("calls to a host that is gone fail, and later ones reach the next", async (t) => {
  const host = await start(t, "services", { host: ["host.emit"] });
  await host.service("plain", "start");
  host.hostAnswer = () => null;
  await host.call("emit");
  await host.until(() => host.hostCalls.length === 1);
  await replace(host);
  await host.until(() => host.stderr.includes("host.emit: the connection was lost: closed by the host\n"));
  host.hostAnswer = () => ({ result: null });
  await host.call("emit");
  await host.until(() => host.hostCalls.length === 2);
});

test("who asked for an approval is told that the host has forgotten it", async (t) => {
  const host = await start(t, "golden", { manifest: null });
  await host.service("poller", "start");
  await host.until(() => host.health.length === 1);
  const asked = await host.hook(host.index("hook", "before_tool_call"), "before_tool_call", { params: { ask: true } });
  assert.equal(asked.result.requireApproval.title, "May I?");
  host.server.drop(); // the same host is back: it will still tell
  await host.until(() => host.outcomes.length === 2 && host.health.length === 2);
  assert.equal(host.health[1].failed, true);
  await replace(host);
  await host.until(() => host.health.some(({ failed }) => !failed));
});
