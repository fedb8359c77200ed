import assert from "node:assert/strict";
import { test } from "node:test";
import { Host, loadMessage } from "./host.mjs";

async function start(t, more = {}) {
  const host = await Host.start(loadMessage("services", ["./index.mjs"], { stateDir: "/state", host: ["host.emit"], ...more }));
  t.after(() => host.close());
  return host;
}

const done = ({ type, id, ...rest }) => assert.deepEqual([type, rest], ["service.result", {}]);
const calls = async (host) => (await host.call("calls")).result;
const alive = (host) => host.ask("ping", { type: "ping" });

test("what is registered", async (t) => {
  const host = await start(t);
  assert.deepEqual(host.outcome.registrations.filter(({ kind }) => kind === "service").map(({ name, form }) => `${form} ${name}`), [
    "export seed", "export loop", "register plain", "register register", "register flaky", "register slow", "register slow to stop",
    "register bad stop", "register rejects",
  ]);
  assert.deepEqual(host.outcome.diagnostics.filter(({ message }) => /service/i.test(message)).map(({ message }) => message), [
    "an exported service has no id or no start; it is left out",
    "service plain is registered twice; the first is kept",
    "api.registerService needs an id and a start function; one registration is left out",
  ]);
});

test("start and stop are called once each", async (t) => {
  const host = await start(t);
  done(await host.service("plain", "stop"));
  for (let n = 0; n < 2; n++) {
    for (const op of ["start", "start", "stop", "stop"]) done(await host.service("plain", op));
  }
  assert.deepEqual(await calls(host), ["start  plain ", "stop  plain ", "start  plain ", "stop  plain "]);
  done((await Promise.all([host.service("register", "start"), host.service("register", "start")]))[1]);
  done(await host.service("register", "stop")); // it has no stop
  assert.deepEqual((await host.service("unknown", "start")).error, { code: "unknown_service", message: "no service unknown is registered" });
  assert.equal((await host.service("constructor", "start")).error.code, "unknown_service");
});

test("the contexts of both forms", async (t) => {
  const host = await start(t);
  done(await host.service("seed", "start"));
  done(await host.service("register", "start"));
  assert.deepEqual(await calls(host), [
    "agentId config gatewayEvents logger serviceHealth stateDir workspaceDir",
    "config gatewayEvents logger serviceHealth stateDir workspaceDir", "self /state function",
  ]);
});

test("a failed start can be tried again", async (t) => {
  const host = await start(t);
  for (let n = 0; n < 2; n++) {
    const { error } = await host.service("flaky", "start");
    assert.deepEqual([error.code, error.message, error.name], ["threw", "start of service flaky: not yet", "Error"]);
    done(await host.service("flaky", "stop"));
  }
  done(await host.service("flaky", "start"));
  assert.deepEqual(await calls(host), ["start flaky", "start flaky", "start flaky"]);
});

test("a start waits for the one that is under way", async (t) => {
  const host = await start(t);
  const both = [host.service("slow", "start"), host.service("slow", "start")];
  await alive(host);
  await host.call("release", { key: "start" });
  for (const answer of await Promise.all(both)) done(answer);
  assert.deepEqual(await calls(host), ["start slow"]);
});

test("a start that returns too late is stopped", async (t) => {
  const host = await start(t);
  const { error } = await host.service("slow", "start", 20);
  assert.deepEqual(error, { code: "timed_out", message: "start of service slow did not return within 20 ms" });
  await host.call("release", { key: "start" });
  await host.until(() => host.stdout.includes("stop slow"));
  done(await host.service("slow", "stop"));
  assert.deepEqual(await calls(host), ["start slow", "stop slow"]);
  await host.until(() => host.stderr.includes("start of service slow returned too late; the service is stopped"));
});

test("a start that was late and is wanted again is kept", async (t) => {
  const host = await start(t);
  assert.equal((await host.service("slow", "start", 20)).error.code, "timed_out");
  const again = host.service("slow", "start");
  await alive(host);
  await host.call("release", { key: "start" });
  done(await again);
  assert.deepEqual(await calls(host), ["start slow"]);
  done(await host.service("slow", "stop"));
  assert.deepEqual(await calls(host), ["stop slow"]);
});

test("a start that fails late is told in the log", async (t) => {
  const host = await start(t);
  assert.equal((await host.service("slow", "start", 20)).error.code, "timed_out");
  await host.call("release", { key: "start", error: "too late" });
  await host.until(() => host.stderr.includes("start of service slow: too late"));
  assert.deepEqual(await calls(host), ["start slow"]);
});

test("a start that never returns is stopped all the same", async (t) => {
  const host = await start(t);
  assert.equal((await host.service("loop", "start", 20)).error.code, "timed_out");
  const waiting = host.service("loop", "start", 0);
  done(await host.service("loop", "stop", 40));
  assert.deepEqual((await waiting).error, { code: "cancelled", message: "service loop was stopped before its start returned" });
  assert.deepEqual(await calls(host), ["start loop", "stop loop"]);
  assert.equal((await host.service("loop", "start", 20)).error.code, "timed_out");
  assert.deepEqual(await calls(host), ["start loop"]);
});

test("a stop that fails or is late ends the service", async (t) => {
  const host = await start(t);
  done(await host.service("bad stop", "start"));
  assert.equal((await host.service("bad stop", "stop")).error.message, "stop of service bad stop: cannot");
  done(await host.service("bad stop", "stop"));
  done(await host.service("slow to stop", "start"));
  assert.equal((await host.service("slow to stop", "stop", 20)).error.code, "timed_out");
  done(await host.service("slow to stop", "start"));
  const [stopping, restarted] = [host.service("slow to stop", "stop"), host.service("slow to stop", "start")];
  await alive(host);
  await host.call("release", { key: "stop" });
  done(await stopping);
  done(await restarted);
  assert.deepEqual(await calls(host), [
    "start bad stop", "stop bad stop", "start slow to stop", "stop slow to stop", "start slow to stop", "stop slow to stop", "start slow to stop",
  ]);
});

test("an unhandled rejection of a service ends the process", async (t) => {
  const host = await start(t);
  void host.service("rejects", "start");
  assert.deepEqual(await host.exited, { code: 1, signal: null });
  assert.match(host.stderr, /nobody waits/);
});

test("health is reported, the latest counts", async (t) => {
  const host = await start(t);
  done(await host.service("plain", "start"));
  await host.call("report", { clear: true }); // nothing has failed
  await host.call("report", { reasons: ["one", "one", "two", { reason: "three" }] });
  await host.until(() => host.health.length === 2);
  await host.call("report", { clear: true });
  await host.until(() => host.health.length === 3);
  await host.call("report", { big: true });
  await host.until(() => host.health.length === 4);
  const { reason, ...rest } = host.health.pop();
  assert.deepEqual(rest, { type: "service.health", service: "plain", failed: true });
  assert.ok(Buffer.byteLength(reason) <= 4096 && reason.length > 2000);
  assert.deepEqual(host.health, [
    { type: "service.health", service: "plain", failed: true, reason: "one" },
    { type: "service.health", service: "plain", failed: true, reason: "three" },
    { type: "service.health", service: "plain", failed: false },
  ]);
});

test("a stopped service has no health, a failed one is told to every host", async (t) => {
  const host = await start(t);
  done(await host.service("plain", "start"));
  await host.call("report", { reasons: [{ message: "gone" }] });
  await host.until(() => host.health.length === 1);
  host.server.drop();
  await host.until(() => host.health.length === 2);
  assert.deepEqual(host.health[1], host.health[0]);
  done(await host.service("plain", "stop"));
  await host.call("report", { reasons: ["after the end"] });
  host.server.drop();
  await host.until(() => host.outcomes.length === 3);
  await alive(host);
  assert.equal(host.health.length, 2);
});

test("events go to the host", async (t) => {
  const host = await start(t);
  done(await host.service("plain", "start"));
  assert.equal((await host.call("emit", { payload: { n: 1 }, options: { scope: "operator.read", more: 1 } })).result, "function");
  await host.call("emit");
  await host.until(() => host.hostCalls.length === 2);
  assert.deepEqual(host.hostCalls.map(({ params }) => params), [{ event: "tick", payload: { n: 1 }, scope: "operator.read" }, { event: "tick", payload: null }]);
  assert.notEqual(host.hostCalls[0].id, host.hostCalls[1].id);
  host.hostAnswer = () => ({ error: { code: "no_host", message: "no host\nis attached" } });
  await host.call("emit");
  await host.until(() => host.stderr.includes("host.emit: no_host: no host is attached\n"));
  await host.call("emit", { big: true });
  await host.until(() => host.stderr.includes("host.emit: unserialised: it is larger than 65536 bytes\n"));
  await host.call("emit", { bad: true });
  await host.until(() => host.stderr.includes("host.emit: unserialised: cannot write the result as JSON: "));
  assert.equal(host.hostCalls.length, 3);
});

test("the queue of events is bounded", async (t) => {
  const host = await start(t);
  done(await host.service("plain", "start"));
  const held = [];
  host.hostAnswer = (message) => void held.push(message.id);
  await host.call("emit", { times: 300 });
  await host.until(() => host.stderr.includes("host.emit: busy: too many calls are waiting\n"));
  assert.equal(host.stderr.match(/busy/g).length, 1, "repeated warnings are one line");
  assert.equal(held.length, 8);
});

test("what was not granted is not sent", async (t) => {
  const host = await start(t, { host: undefined });
  done(await host.service("plain", "start"));
  await host.call("emit");
  await host.until(() => host.stderr.includes("host.emit: not_granted: it was not granted to this plugin\n"));
  assert.deepEqual(host.hostCalls, []);
});

test("a load check starts nothing", async (t) => {
  const host = await start(t, { mode: "discovery" });
  assert.equal((await host.service("plain", "start")).error.code, "unknown_service");
  assert.deepEqual(await calls(host), []);
});

test("stop stops the services in reverse order, within the grace", async (t) => {
  const host = await start(t);
  for (const id of ["plain", "flaky", "slow to stop", "bad stop", "seed"]) await host.service(id, "start");
  done(await host.service("plain", "stop"));
  done(await host.service("plain", "start")); // now it is the last one
  await host.service("loop", "start", 20);
  const before = performance.now();
  const stopped = host.ask("stop", { type: "stop", reason: "disabled", graceMs: 2000 });
  assert.equal((await host.service("plain", "start")).error.code, "cancelled");
  assert.deepEqual(await stopped, { type: "stopped" });
  assert.deepEqual(await host.exited, { code: 0, signal: null });
  assert.ok(performance.now() - before < 2000, "it takes longer than the grace");
  assert.deepEqual(host.stdout.split("\n").filter((line) => line.startsWith("stop ")).slice(1), ["stop loop", "stop  plain ", "stop seed"]);
  assert.match(host.stderr, /stop of service bad stop: cannot/);
  assert.match(host.stderr, /stop of service slow to stop did not return within/);
});
