import assert from "node:assert/strict";
import { test } from "node:test";
import { Host, loadMessage } from "./host.mjs";

async function start(t, root, entries, more) {
  const host = await Host.start(loadMessage(root, [entries].flat(), more));
  t.after(() => host.close());
  return host;
}

for (const entry of ["./index.mjs", "./index.cjs", "./default.mjs"]) {
  test(`the document form: ${entry}`, async (t) => {
    const host = await start(t, "export", entry);
    assert.equal(host.outcome.type, "ready", JSON.stringify(host.outcome));
    assert.deepEqual(host.outcome.registrations, [
      { kind: "tool", name: "echo", entry: 0, form: "export", spec: { description: "echoes", parameters: { type: "object" } } },
      { kind: "hook", name: "agent:message:before", entry: 0, form: "export", spec: { event: "agent:message:before", priority: 3, registrar: "export" } },
      { kind: "service", name: "poller", entry: 0, form: "export", spec: { id: "poller", interval: 5 } },
    ]);
    const { result } = await host.call("echo", { a: 1 }, { context: { agentId: "other" } });
    assert.deepEqual(result, { params: { a: 1 }, agentId: "other" });
  });
}

for (const entry of [
  "function.mjs", "object.mjs", "named.mjs", "activate.mjs", "function.cjs", "object.cjs", "nested.cjs", "module.mjs", "typed.ts",
]) {
  test(`the register form: ${entry}`, async (t) => {
    const host = await start(t, "register", `./${entry}`);
    assert.equal(host.outcome.type, "ready", JSON.stringify(host.outcome));
    assert.deepEqual(host.outcome.registrations, [{
      kind: "tool", name: "echo", entry: 0, form: "register",
      spec: { label: "Echo", description: "echoes", parameters: { type: "object" } },
    }]);
    assert.ok(host.outcome.loadMs > 0);
    const { result } = await host.call("echo", { a: 1 }, { context: { agentId: "main", toolCallId: "t1" } });
    assert.deepEqual(result, { id: "t1", params: { a: 1 } });
  });
}

test("both forms in one module, and a second entry with an id of its own", async (t) => {
  const host = await start(t, "both", ["index.mjs", "./second.mjs"]);
  assert.deepEqual(host.outcome.registrations.map(({ name, entry, form }) => [name, entry, form]),
    [["one", 0, "export"], ["two", 0, "register"], ["three", 1, "register"]]);
});

test("a plugin may register nothing", async (t) => {
  const host = await start(t, "quiet", "./index.mjs");
  assert.deepEqual([host.outcome.type, host.outcome.registrations, host.outcome.diagnostics], ["ready", [], []]);
});

test("unusable exports are left out and told", async (t) => {
  const host = await start(t, "export", "./broken.mjs");
  assert.deepEqual(host.outcome.registrations.map(({ name }) => name), ["echo"]);
  assert.deepEqual(host.outcome.diagnostics.filter(({ level }) => level === "error").map(({ message }) => message), [
    "an exported hook has no event or no handler; it is left out",
    "an exported service has no id or no start; it is left out",
    "a tool without a name was registered; it is left out",
    "tool idle has no execute function; it is left out",
  ]);
});

for (const [entry, code, message] of [
  ["./throws.mjs", "load", "cannot import ./throws.mjs: no such luck"],
  ["./syntax.mjs", "load", /^cannot import .\/syntax.mjs: Unexpected token/],
  ["./missing.mjs", "load", /^cannot import .\/missing.mjs: Cannot find module/],
  ["../quiet/index.mjs", "load", "entry ../quiet/index.mjs is outside the package"],
  ["./nothing.mjs", "no_entry", /exports no plugin/],
  ["./async.mjs", "async_register", "plugin register must be synchronous"],
  ["./register.mjs", "register", "register of ./register.mjs threw: out of range"],
  ["./throws-null.mjs", "register", "register of ./throws-null.mjs threw: null"],
  ["./duplicate.mjs", "duplicate", "tool echo is registered twice"],
  ["./duplicate-factory.mjs", "duplicate", "tool echo is registered twice"],
  ["./duplicate-export.mjs", "duplicate", "tool echo is registered twice"],
  ["./id.mjs", "id_mismatch", "plugin id mismatch: the manifest says demo, ./id.mjs exports other"],
  ["./schema.mjs", "register", /^the parameters of tool echo are not JSON/],
  ["./tools.mjs", "register", 'the export "tools" is not an array'],
]) {
  test(`failed ${code}: ${entry}`, async (t) => {
    const host = await start(t, "fail", entry);
    assert.equal(host.outcome.type, "failed", JSON.stringify(host.outcome));
    assert.equal(host.outcome.error.code, code);
    if (typeof message === "string") assert.equal(host.outcome.error.message, message);
    else assert.match(host.outcome.error.message, message);
    assert.deepEqual((await host.call("echo")).error.code, "unknown_tool");
    assert.equal((await host.ask("ping", { type: "ping" })).type, "pong");
  });
}

test("what was thrown is told with its name and stack", async (t) => {
  const { outcome } = await start(t, "fail", "./register.mjs");
  assert.equal(outcome.error.name, "RangeError");
  assert.match(outcome.error.stack, /register\.mjs:2/);
});

test("without a manifest no id is compared", async (t) => {
  const { outcome } = await start(t, "fail", "./id.mjs", { manifest: null });
  assert.equal(outcome.type, "ready");
});

test("tools missing from contracts.tools are only noted", async (t) => {
  const declared = await start(t, "register", "./function.mjs", { manifest: { id: "demo", contracts: { tools: ["echo"] } } });
  assert.deepEqual(declared.outcome.diagnostics, []);
  const undeclared = await start(t, "register", "./function.mjs");
  assert.equal(undeclared.outcome.type, "ready");
  assert.match(undeclared.outcome.diagnostics[0].message, /does not declare in contracts.tools: echo;/);
});

test("a ready that is too long for a message loses descriptions, and then fails", async (t) => {
  const load = loadMessage("api", ["./index.mjs"]);
  const full = await Host.start(load);
  t.after(() => full.close());
  const size = JSON.stringify(full.outcome).length;
  const short = await Host.start(load, { server: { maxPayload: size - 100 } });
  t.after(() => short.close());
  assert.equal(short.outcome.type, "ready", JSON.stringify(short.outcome));
  assert.deepEqual(short.registration("service", "poller").spec, {});
  assert.notDeepEqual(short.registration("tool", "probe").spec, {});
  const tiny = await Host.start(load, { server: { maxPayload: Math.floor(size / 2) } });
  t.after(() => tiny.close());
  assert.deepEqual([tiny.outcome.type, tiny.outcome.error.code], ["failed", "register"]);
});
