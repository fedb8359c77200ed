import assert from "node:assert/strict";
import { realpathSync } from "node:fs";
import { after, before, test } from "node:test";
import { Host, loadMessage } from "./host.mjs";

/** @type {Host} */
let host;
before(async () => {
  host = await Host.start(loadMessage("factory", ["./index.mjs"], { workspaceDir: "/default" }));
});
after(() => host.close());

test("factories' tools are known at load", () => {
  assert.equal(host.outcome.type, "ready", JSON.stringify(host.outcome));
  assert.deepEqual(host.outcome.registrations.map(({ name, spec }) => [name, spec.optional ?? false]), [
    ["who", false], ["first", true], ["second", true], ["guarded", false], ["in-session", false], ["moody", false], ["where", false],
  ]);
});

test("what a factory leaves open is told", () => {
  assert.deepEqual(host.outcome.diagnostics.map(({ message }) => message).slice(0, -1), [
    "a tool factory with an unsupported context version was registered; it is left out",
    "the factory of tool in-session did not make it at load: it may not be available in every context",
    "a tool factory made no tool and was registered without a name: its tools are not known",
    "the factory of tool moody threw: no session",
    "the factory of tool moody did not make it at load: it may not be available in every context",
  ]);
});

test("a factory is asked with the context of the call", async () => {
  const context = { agentId: "ops", sessionKey: "agent:ops:main", senderId: "u1", workspaceDir: "/srv" };
  assert.deepEqual((await host.call("who", {}, { context })).result,
    { agentId: "ops", sessionKey: "agent:ops:main", sender: "u1", workspaceDir: "/srv", owner: false, config: true });
  assert.deepEqual((await host.call("who")).result, { agentId: "main", workspaceDir: "/default", owner: false, config: true });
});

test("a tool that this context does not have", async () => {
  assert.deepEqual((await host.call("in-session")).error,
    { code: "unknown_tool", message: "tool in-session is not available in this context" });
  const context = { agentId: "main", sessionKey: "s" };
  assert.equal((await host.call("in-session", {}, { context })).result, 4);
  assert.equal((await host.call("moody")).error.message, "no session");
  assert.equal((await host.call("moody", {}, { context })).result, 5);
});

test("one factory may make several tools, or need a current call", async () => {
  assert.equal((await host.call("second")).result, 2);
  assert.equal((await host.call("guarded")).result, null);
});

test("without a workspace of the host's, a plugin has its own, and starts in its home", async (t) => {
  const own = await Host.start(loadMessage("factory", ["./index.mjs"]));
  t.after(() => own.close());
  assert.equal((await own.call("who")).result.workspaceDir, `${own.server.dir}/.openclaw/workspace`);
  assert.deepEqual((await own.call("where")).result, { cwd: realpathSync(own.server.dir), workspace: true });
});
