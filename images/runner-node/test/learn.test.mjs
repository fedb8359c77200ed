import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Host, loadMessage } from "./host.mjs";

const LOAD = {
  env: { GIVEN: "given" }, host: [],
  config: { agents: { defaults: { model: "m" }, list: [{ id: "a" }] }, plugins: { entries: { demo: { enabled: true } } } },
  pluginConfig: { units: "metric" },
};

/** @type {Host} the one that learns, and one that does not */
let host, plain;
before(async () => {
  host = await Host.start(loadMessage("learn", ["./index.mjs"], { ...LOAD, learn: true }));
  plain = await Host.start(loadMessage("learn", ["./index.mjs"], LOAD));
});
after(() => Promise.all([host.close(), plain.close()]));

/** The targets of the wishes of some kinds, in order. */
const wishes = (from, ...kinds) => from.hostCalls.filter((call) => call.method === "host.wish" && kinds.includes(call.params.kind)).map(({ params }) => params.target);

/** both calls a tool in both plugins, which must answer alike, and resolves to what it answered. */
async function both(tool) {
  const [learning, usual] = [await host.call(tool), await plain.call(tool)];
  assert.equal(learning.error, undefined);
  assert.deepEqual(learning.result, usual.result);
  return learning.result;
}

test("connections by every API are told with their host and port, once", async () => {
  const [ends] = await both("network");
  assert.deepEqual(ends, {
    net: "ENOTFOUND", options: "ENOTFOUND", socket: "ENOTFOUND", tls: "ENOTFOUND", http: "ENOTFOUND", https: "ENOTFOUND", http2: "ENOTFOUND",
    fetch: "ENOTFOUND", websocket: "error", again: "ENOTFOUND", refused: "ERR_SOCKET_BAD_PORT", local: "ENOENT",
  });
  assert.deepEqual(wishes(host, "network"), [
    "net.example.com:5432", "options.example.com:1", "socket.example.com:2", "tls.example.com:993", "http.example.com:80",
    "https.example.com:8443", "http2.example.com:443", "fetch.example.com:443", "ws.example.com:443",
  ]);
});

test("variables that are not set are told, when they are read and before ready too", async () => {
  assert.ok(wishes(host, "env").includes("EARLY_WISH"), "when it was imported");
  await both("environment");
  assert.deepEqual(wishes(host, "env"), ["EARLY_WISH", "DESTRUCTURED", "SERVICE_URL", "IN_THERE", "NAMED"]);
  assert.deepEqual(wishes(host, "secret"), ["SERVICE_API_KEY"]);
});

test("paths that are not in the configuration are told, but for the plugin's own", async () => {
  const [results] = await both("settings");
  assert.deepEqual(results.slice(0, 4), [null, "m", null, false]);
  assert.deepEqual(wishes(host, "config"), ["channels", "agents.defaults.missing", "agents.absent", "plugins.entries.other"]);
});

test("what is too long, and what comes after the first 256, is not told", async (t) => {
  const many = await Host.start(loadMessage("learn", ["./index.mjs"], { ...LOAD, learn: true }));
  t.after(() => many.close());
  await many.call("long");
  await many.call("many", { from: 0, to: 300 });
  const told = () => wishes(many, "env", "secret", "config").length;
  const atOnce = told();
  assert.ok(atOnce >= 8 && atOnce < 100, `${atOnce} were told at once`);
  await many.until(() => told() === 256);
  await many.call("many", { from: 300, to: 400 });
  await many.call("long");
  assert.equal(told(), 256);
  assert.equal(wishes(many, "env").at(-1), "WISH_254", "EARLY_WISH was the first");
});

test("without learn mode nothing is told", () => {
  assert.deepEqual(plain.hostCalls, []);
});
