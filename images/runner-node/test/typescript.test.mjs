import assert from "node:assert/strict";
import { test } from "node:test";
import { Host, loadMessage } from "./host.mjs";

async function start(t, entry) {
  const host = await Host.start(loadMessage("typescript", [entry]));
  t.after(() => host.close());
  assert.equal(host.outcome.type, "ready", JSON.stringify(host.outcome));
  return host;
}

test("a TypeScript plugin as people write it", async (t) => {
  const host = await start(t, "./index.ts");
  assert.deepEqual((await host.call("look")).result, {
    shape: { a: 1 }, colour: "blue", go: 3, effect: true, plain: "plain", data: { j: 1 },
    own: { j: 1 }, file: "index.ts", required: { j: 1 }, strict: "MODULE_NOT_FOUND", mode: "none",
  });
});

test("a CommonJS TypeScript plugin", async (t) => {
  const host = await start(t, "./common.cts");
  assert.deepEqual((await host.call("data")).result, [{ j: 1 }, "string"]);
});

test("a package of npm that holds only its sources", async (t) => {
  const host = await start(t, "./node_modules/strict/entry.ts");
  assert.deepEqual((await host.call("packed")).result, ["text", "only"]);
});
