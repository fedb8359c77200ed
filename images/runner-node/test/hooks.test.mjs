import assert from "node:assert/strict";
import { homedir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Approvals } from "../src/approvals.mjs";
import { Host, loadMessage } from "./host.mjs";

/** @type {Host} */
let host;
before(async () => {
  host = await Host.start(loadMessage("hooks", ["./index.mjs"], { workspaceDir: "/srv/work" }));
});
after(() => host.close());

const EXPORT = "agent:message:before";
const call = (event, payload, more) => host.hook(host.index("hook", event), event, payload, more);
const seen = async () => (await host.call("seen")).result.at(-1);
const fields = ({ type, id, ...rest }) => {
  assert.equal(type, "hook.result");
  return rest;
};

test("hooks are described", () => {
  const specs = host.outcome.registrations.filter(({ kind }) => kind === "hook").map(({ form, spec }) => ({ form, ...spec }));
  assert.deepEqual(specs, [
    { form: "export", event: EXPORT, priority: 3, timeoutMs: 2000, registrar: "export" },
    { form: "export", event: "agent:message:sync", priority: 0, registrar: "export" },
    { form: "register", event: "before_tool_call", priority: 0, registrar: "on", matcher: ["exec", "apply_patch"] },
    { form: "register", event: "message_sending", priority: -1.5, registrar: "on" },
    { form: "register", event: "message_sent", priority: Number.MAX_VALUE, registrar: "on" },
    { form: "register", event: "session_end", priority: -Number.MAX_VALUE, registrar: "on" },
    { form: "register", event: "gateway_start", priority: 0, registrar: "on" },
    { form: "register", event: "before_agent_reply", priority: 0, registrar: "on", eligibleTriggers: ["user"] },
    { form: "register", event: "reply_dispatch", priority: 0, registrar: "on" },
    { form: "register", event: "tool_result_persist", priority: 0, registrar: "on" },
    { form: "register", event: "command", priority: 0, registrar: "registerHook" },
    { form: "register", event: "after_tool_call", priority: 0, registrar: "on" },
  ]);
  assert.deepEqual(host.outcome.diagnostics.filter(({ message }) => message.includes("hook") || message.includes("api.on")), [
    { level: "warn", message: "the priority of a hook of before_tool_call is not a number; it is 0" },
    { level: "error", message: "api.on needs an event and a handler; one registration is left out" },
  ]);
});

for (const [doing, want] of [
  ["nothing", { result: null }],
  ["change", { result: null, payload: { do: "change", text: "a changed" } }],
  ["reorder", { result: null }],
  ["text", { result: null }],
  ["list", { result: null }],
  ["object", { result: { note: 1 } }],
  ["change and object", { result: { note: 2 }, payload: { do: "change and object", text: "other" } }],
  ["block error", { result: null, block: { reason: "not <today>" } }],
  ["named block error", { result: null, block: { reason: "by name" } }],
  ["block error without message", { result: null, block: { reason: "plain" } }],
  ["block true", { result: null, block: { reason: "said so" } }],
  ["block true, blockReason", { result: null, block: { reason: "said so too" } }],
  ["block text", { result: null, block: { reason: "a text" } }],
  ["block object", { result: null, block: { reason: "an object" } }],
  ["block without reason", { result: null, block: {} }],
  ["block false", { result: { block: false } }],
]) {
  test(`export form: ${doing}`, async () => assert.deepEqual(fields(await call(EXPORT, { do: doing, text: "a" })), want));
}

test("export form: a long reason is cut to 4 KiB", async () => {
  const { block: { reason } } = await call(EXPORT, { do: "block long" });
  assert.ok(Buffer.byteLength(reason) <= 4096 && Buffer.byteLength(reason) > 4090, `${Buffer.byteLength(reason)} bytes`);
  assert.match(reason, /^ü+…$/);
});

for (const [doing, code, message] of [
  ["throw", "threw", "too far"], ["block unreadable", "threw", "^no$"], ["unreadable", "threw", "thrown value cannot be read"], ["cycle", "unserialised", /circular/],
]) {
  test(`export form: ${doing}`, async () => {
    const { error, ...rest } = fields(await call(EXPORT, { do: doing }));
    assert.deepEqual(rest, {});
    assert.equal(error.code, code);
    assert.match(error.message, new RegExp(message));
  });
}

test("export form: an event that is nested very deep is an error", async () => {
  const deep = JSON.parse("[".repeat(2000) + "]".repeat(2000));
  assert.deepEqual(fields(await call(EXPORT, { do: "nothing", deep })), { result: null });
  const changed = await call(EXPORT, { do: "change", text: "a", deep });
  assert.equal(JSON.stringify(changed.payload), JSON.stringify({ do: "change", text: "a changed", deep })); // assert compares no deeper
  const text = `{"type":"hook.call","id":"deep","handler":${host.index("hook", EXPORT)},"event":"x","payload":{"do":"nothing","deep":${"[".repeat(9000)}${"]".repeat(9000)}},"context":{},"timeoutMs":0}`;
  const { error } = await host.ask("hook", text);
  assert.deepEqual([error.code, error.name], ["threw", "RangeError"]);
  assert.equal((await host.ask("ping", { type: "ping" })).type, "pong");
});

test("export form: the PluginContext", async () => {
  await call(EXPORT, { do: "nothing" }, { context: { agentId: "researcher" } });
  assert.deepEqual(await seen(), { context: ["agentId", "config", "logger", "stateDir", "workspaceDir"], agentId: "researcher", workspaceDir: "/srv/work" });
  await call(EXPORT, { do: "nothing" }, { context: undefined });
  assert.equal((await seen()).agentId, "main");
});

for (const [doing, want] of [
  ["result", { result: { content: "x", n: [1, null] } }], ["nothing", { result: null }], ["change", { result: { params: { deep: "changed" } } }],
]) {
  test(`register form: ${doing}`, async () => {
    assert.deepEqual(fields(await call("message_sending", { do: doing, value: { content: "x", n: [1, null] }, params: { deep: 1 } })), want);
  });
}

for (const [doing, code, message] of [
  ["throw", "threw", /^too far$/], ["reject", "threw", /^too far$/], ["bigint", "unserialised", /BigInt/], ["large", "unserialised", /too large/],
]) {
  test(`register form: ${doing}`, async () => {
    const { error, ...rest } = fields(await call("message_sending", { do: doing }));
    assert.deepEqual(rest, {});
    assert.equal(error.code, code);
    assert.match(error.message, message);
  });
}

test("register form: an approval that cannot be read", async () => {
  assert.deepEqual(fields(await call("message_sending", { do: "hidden approval" })), { result: { content: "y" } });
  await host.until(() => host.stderr.includes("not for you"));
  assert.equal((await host.ask("ping", { type: "ping" })).type, "pong");
});

test("register form: the context", async () => {
  const context = { agentId: "a", sessionKey: "k", sessionId: "s", runId: "r", toolCallId: "t", senderId: "u", workspaceDir: "/elsewhere" };
  await call("before_tool_call", { toolName: "exec", params: {}, runId: "other" }, { context });
  assert.deepEqual(await seen(), {
    event: { toolName: "exec", params: {}, runId: "other" }, config: "object", signal: true,
    ctx: { ...context, toolName: "exec", requester: { senderId: "u" } },
  });
  await call("gateway_start", { port: 18789 }, { context: {} });
  assert.deepEqual((await seen()).ctx, { port: 18789, agentId: "main", workspaceDir: "/srv/work" });
  await call("message_sending", { channel: "pigeon", accountId: "x", metadata: {} }, { context: {} });
  assert.deepEqual((await seen()).ctx, { channel: "pigeon", channelId: "pigeon", accountId: "x", agentId: "main", workspaceDir: "/srv/work" });
});

test("matcher, eligibleTriggers and eligibleDispatchKinds", async () => {
  for (const [event, payload, want] of [
    ["before_tool_call", { toolName: "EXEC" }, true], ["before_tool_call", { toolName: "apply_patch" }, true],
    ["before_tool_call", { toolName: "read" }, false], ["before_tool_call", {}, true],
    ["before_agent_reply", { trigger: "user" }, true], ["before_agent_reply", { trigger: "cron" }, false], ["before_agent_reply", {}, true],
    ["reply_dispatch", { dispatchKind: "agent" }, true], // a list with an unknown kind restricts nothing
    ["after_tool_call", { toolName: "tool299" }, true], ["after_tool_call", { toolName: "tool300" }, false],
  ]) {
    const answer = fields(await call(event, { ...payload, do: "result", value: true }));
    assert.deepEqual(answer, { result: want ? true : null }, `${event} ${JSON.stringify(payload)}`);
  }
});

test("registerHook: the internal event", async () => {
  const index = host.index("hook", "command");
  const ask = (payload, more) => host.hook(index, "command:new:now", payload, more);
  assert.deepEqual(fields(await ask({ n: 1 }, { context: { sessionKey: "k" } })), { result: null });
  assert.deepEqual(await seen(), { type: "command", action: "new:now", sessionKey: "k", context: { n: 1 }, timestamp: true, messages: [] });
  assert.deepEqual(fields(await ask({ push: true })), { result: { messages: ["one", "two"] } });
  assert.deepEqual(fields(await ask({ change: true })), { result: null, payload: { change: "done" } });
  assert.deepEqual(fields(await ask({ push: true, value: 7 })), { result: 7 });
  await host.hook(index, "command", undefined, { payload: undefined });
  assert.deepEqual((await seen()).action, "");
});

test("a synchronous event drops promises", async () => {
  assert.deepEqual(fields(await call("tool_result_persist", { do: "result", value: { message: 1 } }, { sync: true })), { result: { message: 1 } });
  assert.deepEqual(fields(await call("tool_result_persist", { do: "reject" }, { sync: true })), { result: null });
  await host.until(() => host.log.some(({ level, msg }) => level === "warn"
    && msg === "a handler of tool_result_persist returned a promise; it must return at once, and its result is ignored"));
  assert.equal((await call("tool_result_persist", { do: "throw" }, { sync: true })).error.code, "threw");
  assert.deepEqual(fields(await call("agent:message:sync", { do: "change", text: "a" }, { sync: true })), { result: null, payload: { do: "change", text: "a changed" } });
  assert.deepEqual(fields(await call("agent:message:sync", { do: "hang", key: "sync" }, { sync: true })), { result: null });
});

for (const [event, error] of [["message_sending", undefined], [EXPORT, undefined], ["message_sending", "late and wrong"]]) {
  test(`a late handler of ${event} goes on${error ? " and fails" : ""}`, async () => {
    const answer = fields(await call(event, { do: "hang", key: "late" }, { timeoutMs: 20 }));
    assert.deepEqual(answer, { error: { code: "timed_out", message: `the handler of ${event} did not return within 20 ms` } });
    await host.call("release", { key: "late", error }); // a second answer would be an unexpected message
    assert.equal((await host.ask("ping", { type: "ping" })).type, "pong");
  });
}

test("cancel aborts the handler's signal", async () => {
  const answer = call("message_sending", { do: "aborted", key: "c" }, { id: "cancelled" });
  await host.ask("ping", { type: "ping" });
  host.tell("cancel", { type: "cancel", id: "cancelled" });
  assert.deepEqual((await answer).error, { code: "cancelled", message: "the call was cancelled" });
  await host.until(() => host.stdout.includes("aborted c"));
});

test("a time limit does not abort the signal", async () => {
  await call("message_sending", { do: "aborted", key: "d" }, { timeoutMs: 20 });
  await host.ask("ping", { type: "ping" });
  assert.ok(!host.stdout.includes("aborted d"));
});

test("what is no hook", async () => {
  for (const index of [host.index("tool", "seen"), 1000, -1, "toString"]) {
    assert.deepEqual(fields(await host.hook(index, "x")).error, { code: "unknown_handler", message: `registration ${index} is no hook that can be called` });
  }
});

test("the end of an approval is told once", async () => {
  const answer = await call("before_tool_call", { toolName: "exec", do: "ask", key: "a1" }, { id: "ask-1" });
  assert.deepEqual(answer.result, { requireApproval: { title: "May I?" } });
  await call("before_tool_call", { toolName: "exec", do: "ask", key: "a2", fail: true }, { id: "ask-2" });
  for (const id of ["ask-1", "ask-1", "unknown", "ask-2"]) host.tell("resolved", { type: "approval.resolved", id, decision: "allow-once" });
  await host.until(() => host.stderr.includes("onResolution of hook call ask-2: cannot take it"));
  assert.equal(host.stdout.match(/resolved a1 allow-once May I\?/g).length, 1);
});

test("callbacks of approvals are bounded in number and age", () => {
  let time = 0;
  const told = [];
  const approvals = new Approvals(assert.fail, () => time);
  const remember = (id) => approvals.remember(id, { requireApproval: { onResolution: (decision) => told.push(`${id} ${decision}`) } });
  const resolve = (id) => approvals.resolved({ id, decision: "deny" });
  approvals.remember("none", { requireApproval: {} });
  approvals.remember("none", null);
  for (let n = 0; n < 257; n++) remember(`n${n}`);
  for (const id of ["n0", "n1", "n256", "none"]) resolve(id);
  assert.deepEqual(told.splice(0), ["n1 deny", "n256 deny"]);
  time = 60 * 60 * 1000 - 1;
  resolve("n2");
  time++;
  resolve("n3");
  assert.deepEqual(told, ["n2 deny"]);
});

test("a load check calls no hook", async (t) => {
  const check = await Host.start(loadMessage("hooks", ["./index.mjs"], { mode: "discovery" }));
  t.after(() => check.close());
  assert.equal((await check.hook(check.index("hook", "message_sending"), "message_sending")).error.code, "unknown_handler");
});

test("the default workspace is in the home", async (t) => {
  const plain = await Host.start(loadMessage("hooks", ["./index.mjs"]));
  t.after(() => plain.close());
  await plain.hook(plain.index("hook", "gateway_start"), "gateway_start");
  assert.equal((await plain.call("seen")).result[0].ctx.workspaceDir, join(plain.server.dir, ".openclaw", "workspace"));
  assert.notEqual(homedir(), plain.server.dir);
});
