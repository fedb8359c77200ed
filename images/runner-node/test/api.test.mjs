import assert from "node:assert/strict";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { createApi } from "../src/api.mjs";
import { Lifecycle } from "../src/lifecycle.mjs";
import { FACADES, HOST_FUNCTIONS, REGISTRARS } from "../src/registrars.mjs";
import { Registry } from "../src/registry.mjs";
import { createRuntime } from "../src/runtime.mjs";
import { fixtures, Host, loadMessage } from "./host.mjs";

/** @type {Host} */
let host;
before(async () => {
  host = await Host.start(loadMessage("api", ["./index.mjs"], {
    manifest: { id: "demo", name: "Demo", contracts: { tools: ["probe"] } },
    config: { agents: {} }, pluginConfig: { units: "metric" }, mode: "discovery",
  }));
});
after(() => host.close());

test("every registration is reported in order", () => {
  assert.equal(host.outcome.type, "ready", JSON.stringify(host.outcome));
  assert.deepEqual(host.outcome.registrations.map(({ kind, name }) => [kind, name]), [
    ["hook", "before_tool_call"], ["hook", "agent_end"], ["hook", "command:new"], ["hook", "command:reset"],
    ["service", "poller"], ["gatewayMethod", "demo.status"], ["httpRoute", "/demo"], ["command", "demo"],
    ["cli", "demo,demo2"], ["channel", "pigeon"], ["contextEngine", "engine"], ["memoryPromptSupplement", ""],
    ["onConversationBindingResolved", ""], ["sessionAction", "action"], ["agentEventSubscription", "events"],
    ["somethingNew", "new"], ["tool", "probe"],
  ]);
});

test("registrations are described by what is JSON in them", () => {
  const specs = {
    "hook before_tool_call": { event: "before_tool_call", priority: 10, timeoutMs: 5000, registrar: "on" },
    "hook command:new": { event: "command:new", priority: 0, registrar: "registerHook", name: "commands" },
    "gatewayMethod demo.status": { scope: "operator.read" },
    "httpRoute /demo": { path: "/demo", auth: "plugin" },
    "cli demo,demo2": { commands: ["demo", "demo2"] },
    "channel pigeon": { id: "pigeon", meta: { label: "Pigeon" } },
    "contextEngine engine": {},
  };
  for (const [key, want] of Object.entries(specs)) {
    const [kind, ...name] = key.split(" ");
    assert.deepEqual(host.registration(kind, name.join(" ")).spec, want, key);
  }
});

test("what is odd is told", () => {
  assert.deepEqual(host.outcome.diagnostics, [
    { level: "warn", message: "the matcher of a hook of before_tool_call is not a list of tool names; the handler is called for every tool" },
    { level: "error", message: "api.on needs an event and a handler; one registration is left out" },
    { level: "warn", message: "service poller is registered twice; the first is kept" },
    { level: "warn", message: "api.registerSomethingNew is not known to this host; what it registers is recorded and not used" },
  ]);
});

test("the api's fields and runtime", async () => {
  const root = join(fixtures, "api");
  const config = { agents: {}, plugins: { entries: { demo: { config: { units: "metric" } } } } };
  assert.deepEqual((await host.call("probe")).result, {
    id: "demo", name: "Demo", version: "1.0.0", registrationMode: "full", config, pluginConfig: { units: "metric" },
    rootDir: root, source: join(root, "index.mjs"), path: join(host.server.dir, "x"),
    runtimeVersion: "2026.9.6", current: config, loaded: config, provider: "openai", stateDir: tmpdir(),
    unknownNamespace: "undefined", thenable: "undefinedundefined",
    deep: "not available in this host: runtime.channel.reply.dispatch",
    write: "not available in this host: runtime.config.replaceConfigFile",
    hostFunction: "not available in this host: api.getRunContext",
    child: "function",
  });
});

test("what is registered late is ignored with a warning", async () => {
  await host.call("probe");
  await host.until(() => host.stdout.includes("api.registerTool was called after register returned; it is ignored"));
  assert.equal((await host.call("late")).error.code, "unknown_tool");
});

function newApi() {
  const load = loadMessage("api", ["./index.mjs"]);
  const lifecycle = new Lifecycle();
  const registry = new Registry();
  const runtime = createRuntime({ config: {}, stateDir: "/state", plugin: "demo", lifecycle });
  const warnings = [];
  const logger = { warn: (message) => warnings.push(message) };
  const { api, close } = createApi({ load, entry: 0, source: "/x", config: {}, runtime, logger, registry, lifecycle });
  return { api, close, registry, warnings, lifecycle };
}

test("every registrar of OpenClaw 2026.9.6 exists and records", () => {
  const { api, registry } = newApi();
  for (const name of REGISTRARS) {
    assert.equal(typeof api[name], "function", name);
    assert.equal(Object.hasOwn(api, name), true, name);
    api[name]({ id: name, handler() {} });
  }
  assert.equal(registry.finish({}).length, REGISTRARS.length);
  for (const [path, names] of Object.entries(FACADES)) {
    const group = path.split(".").reduce((at, key) => at[key], api);
    for (const name of names) assert.equal(group[name], api[name], `${path}.${name}`);
  }
});

test("closing stops every registrar, and paths are resolved ever after", () => {
  const { api, close, registry, warnings } = newApi();
  const { registerService } = api;
  close();
  for (const name of [...REGISTRARS, "registerTool", "registerHook", "registerService", "on"]) assert.equal(api[name]({ id: "x" }), undefined);
  registerService({ id: "late", start() {} });
  assert.deepEqual(registry.finish({}), []);
  assert.equal(warnings.length, REGISTRARS.length + 5);
  for (const name of HOST_FUNCTIONS) assert.throws(() => api[name]({}), /not available in this host: api/);
  assert.equal(api.resolvePath("~"), homedir());
  assert.equal(api.resolvePath(""), "");
  assert.equal(api.resolvePath("/a/../b"), "/b");
});
