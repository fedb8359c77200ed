import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { applyEnv } from "../src/env.mjs";
import { Host, loadMessage } from "./host.mjs";

/** @type {Host} */
let host;
before(async () => {
  host = await Host.start(loadMessage("env", ["./index.mjs"], {
    env: { GREETING: "salve", TZ: "Asia/Tokyo", NODE_ENV: "production", PATH: "/evil", OCMT_PLUGIN: "other", HOME: "/evil" },
  }));
});
after(() => host.close());

test("the granted environment is there when the plugin is imported", async () => {
  const env = (await host.call("env")).result;
  assert.deepEqual([env.GREETING, env.TZ, env.NODE_ENV], ["salve", "Asia/Tokyo", "production"]);
  assert.deepEqual([env.HOME, env.OCMT_PLUGIN, env.PATH], [host.server.dir, "demo", process.env.PATH]);
});

test("what may not be set is told", () => {
  assert.deepEqual(host.outcome.diagnostics.filter(({ message }) => message.includes("environment")).map(({ message }) => message),
    ["PATH", "OCMT_PLUGIN", "HOME"].map((name) => `the environment variable ${name} cannot be set for a plugin; it is left out`));
});

for (const name of ["OCMT_X", "NODE_OPTIONS", "NODE_EXTRA_CA_CERTS", "LD_PRELOAD", "SSL_CERT_FILE", "TMPDIR", "", "A=B", "1A", "a b", "__proto__\n"]) {
  test(`the variable ${JSON.stringify(name)} is left out`, () => {
    const told = [];
    const value = process.env[name];
    applyEnv({ [name]: "evil" }, (level) => told.push(level));
    assert.deepEqual([told, process.env[name]], [["warn"], value]);
  });
}

test("a value that is no text, and no environment", () => {
  const told = [];
  applyEnv({ OCMTTEST: 1 }, (level, message) => told.push(message));
  applyEnv(undefined, assert.fail);
  assert.equal(told.length, 1);
  assert.equal(process.env.OCMTTEST, undefined);
});
