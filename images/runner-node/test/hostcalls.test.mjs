import assert from "node:assert/strict";
import { test } from "node:test";
import { HostCalls } from "../src/hostcalls.mjs";

/** calls makes host calls over a bus that answers at once with what answer returns. */
function calls(answer) {
  const sent = [];
  const warnings = [];
  const bus = {
    request: async (_, text) => {
      const call = JSON.parse(text);
      sent.push(call);
      return Buffer.from(JSON.stringify({ type: "host.result", id: call.id, ...answer(call) }));
    },
  };
  return { sent, warnings, calls: new HostCalls({ bus, subject: "out.host", warn: (line) => warnings.push(line) }) };
}

/** settled lets everything that waits go out and be answered. */
const settled = () => new Promise((done) => setTimeout(done, 20));

test("log lines need no grant, and are cut", async () => {
  const c = calls(() => ({ result: null }));
  c.calls.log({ level: "warn", msg: "x".repeat(10_000) });
  await settled();
  assert.equal(c.sent.length, 1);
  assert.equal(c.sent[0].method, "host.log");
  assert.equal(c.sent[0].params.level, "warn");
  assert.equal(c.sent[0].params.message.length, 4096);
});

test("a flood of log lines is the plugin's own business", async () => {
  const c = calls(() => ({ result: null }));
  for (let i = 0; i < 5000; i++) c.calls.log({ level: "info", msg: `line ${i}` });
  await settled();
  assert.ok(c.sent.length >= 100 && c.sent.length < 120, `${c.sent.length} lines were sent`);
  assert.deepEqual(c.warnings, []);
});

test("a host that refuses log lines is not told of", async () => {
  const c = calls(() => ({ error: { code: "no_host", message: "nobody" } }));
  c.calls.log({ level: "info", msg: "a" });
  c.calls.send("host.emit", { event: "e" });
  await settled();
  assert.equal(c.sent.length, 1);
  assert.equal(c.warnings.length, 1, c.warnings.join());
  assert.match(c.warnings[0], /host\.emit: not_granted/);
});
