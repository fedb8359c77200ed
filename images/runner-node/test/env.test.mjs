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

const REFUSED = [
  "OCMT_X", "NODE_OPTIONS", "NODE_EXTRA_CA_CERTS", "NODE_TLS_REJECT_UNAUTHORIZED", "NODE_PATH", "NODE_DEBUG", "node_options",
  "NPM_CONFIG_REGISTRY", "npm_config_script_shell", "UV_THREADPOOL_SIZE", "UV_USE_IO_URING", "OPENSSL_CONF", "OPENSSL_MODULES",
  "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "http_proxy", "no_proxy", "ALL_PROXY", "LD_PRELOAD", "LD_AUDIT", "GLIBC_TUNABLES",
  "MALLOC_ARENA_MAX", "GCONV_PATH", "LOCPATH", "TZDIR", "HOSTALIASES", "LOCALDOMAIN", "RES_OPTIONS", "BASH_ENV",
  "HOME", "PATH", "TMPDIR", "", "A=B", "1A", "a b", "A\0B", "ÄB", "__proto__", "__proto__\n",
];
for (const name of REFUSED) {
  test(`the variable ${JSON.stringify(name)} is left out`, () => {
    const told = [];
    const value = process.env[name];
    applyEnv(JSON.parse(`{${JSON.stringify(name)}:"evil"}`), (level) => told.push(level));
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

for (const name of ["BRAVE_API_KEY", "NPM_TOKEN", "GITHUB_TOKEN", "NODE_ENV", "TZ", "LANG", "PROXY_URL", "SSL_MODE", "_x1"]) {
  test(`the variable ${name} is set`, (t) => {
    const before = process.env[name];
    t.after(() => (before === undefined ? delete process.env[name] : (process.env[name] = before)));
    applyEnv({ [name]: "ocmt-secret-placeholder" }, assert.fail);
    assert.equal(process.env[name], "ocmt-secret-placeholder");
  });
}
