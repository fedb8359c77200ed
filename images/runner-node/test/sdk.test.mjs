import assert from "node:assert/strict";
import { test } from "node:test";
import * as coerce from "../src/sdk/coerce.mjs";
import { buildAgentSessionKey, buildChannelOutboundSessionRoute, normalizeAccountId, stripChannelTargetPrefix } from "../src/sdk/channel.mjs";
import { defineChannelPluginEntry, definePluginEntry, defineToolPlugin, emptyPluginConfigSchema, getToolPluginMetadata } from "../src/sdk/entries.mjs";
import { SDK } from "../src/sdk/index.mjs";
import { formatErrorMessage, isDiagnosticFlagEnabled, isSecretRef, KeyedAsyncQueue } from "../src/sdk/misc.mjs";
import * as params from "../src/sdk/params.mjs";
import { optionalStringEnum, stringEnum } from "../src/sdk/schema.mjs";
import { createWebSearchProviderContractFields, mergeScopedSearchConfig } from "../src/sdk/websearch.mjs";
import { Host, loadMessage } from "./host.mjs";

async function start(t, entry, root = "sdk") {
  const host = await Host.start(loadMessage(root, [entry]));
  t.after(() => host.close());
  return host;
}

test("an ESM plugin imports the SDK under every name", async (t) => {
  const host = await start(t, "./esm.mjs");
  assert.equal(host.outcome.type, "ready", JSON.stringify(host.outcome));
  assert.deepEqual(host.registration("tool", "echo").spec.parameters.properties.mode, { type: "string", enum: ["a", "b"] });
  const { result } = await host.call("echo", { some_text: " hi " });
  assert.deepEqual(result.details, { text: "hi", root: "function", trimmed: "x" });
  assert.deepEqual(JSON.parse(result.content[0].text), result.details);
  const { error } = await host.call("echo", {});
  assert.deepEqual([error.message, error.name], ["someText required", "ToolInputError"]);
});

test("a CommonJS plugin requires the SDK", async (t) => {
  const host = await start(t, "./cjs.cjs");
  assert.equal(host.outcome.type, "ready", JSON.stringify(host.outcome));
  const { result } = await host.call("echo", { text: "x" }, { id: "c9" });
  assert.deepEqual(result.details, { text: "x", id: "c9", config: {} });
  assert.deepEqual((await host.call("text")).result, { content: [{ type: "text", text: "plain" }], details: "plain" });
  assert.equal((await host.call("made")).result, "main");
  assert.equal(host.registration("tool", "text").spec.optional, true);
});

for (const [entry, code, message] of [
  ["./missing-path.mjs", "load", "cannot import ./missing-path.mjs: openclaw/plugin-sdk/no-such-path is not in the built-in SDK: this plugin needs the full openclaw SDK"],
  ["./missing-export.mjs", "load", "cannot import ./missing-export.mjs: openclaw/plugin-sdk/core: the built-in SDK has no export runEmbeddedAgent: this plugin needs the full openclaw SDK"],
  ["./missing-export.cjs", "register", "register of ./missing-export.cjs threw: openclaw/plugin-sdk/core: the built-in SDK has no export runEmbeddedAgent: this plugin needs the full openclaw SDK"],
]) {
  test(`what the shim lacks is named: ${entry}`, async (t) => {
    const { outcome } = await start(t, entry);
    assert.deepEqual([outcome.type, outcome.error?.code, outcome.error?.message], ["failed", code, message]);
  });
}

test("a plugin's own openclaw package comes first", async (t) => {
  const host = await start(t, "./index.mjs", "sdk/own");
  assert.equal((await host.call("echo")).result, "its own");
});

test("every export of the shim is defined", () => {
  for (const [path, exports] of SDK) {
    assert.ok(Object.keys(exports).length > 0, path);
    for (const [name, value] of Object.entries(exports)) assert.notEqual(value, undefined, `${path}: ${name}`);
  }
});

test("definePluginEntry makes its schema lazily and once", () => {
  let made = 0;
  const entry = definePluginEntry({ id: "a", name: "A", description: "", configSchema: () => ({ n: ++made }), register() {} });
  assert.equal(made, 0);
  assert.equal(entry.configSchema, entry.configSchema);
  assert.equal(made, 1);
  assert.deepEqual(Object.keys(entry), ["id", "name", "description", "register", "configSchema"]);
});

test("emptyPluginConfigSchema takes nothing but nothing", () => {
  const { safeParse } = emptyPluginConfigSchema();
  assert.deepEqual([undefined, {}, { a: 1 }, [], null].map((value) => safeParse(value).success), [true, true, false, false, false]);
});

test("defineToolPlugin keeps metadata out of sight", () => {
  const entry = defineToolPlugin({ id: "a", name: "A", description: "d", tools: (tool) => [tool({ name: "x", description: "y", parameters: {}, execute() {} })] });
  assert.deepEqual(getToolPluginMetadata(entry).tools, [{ name: "x", label: "x", description: "y", parameters: {} }]);
  assert.equal(Object.getOwnPropertySymbols({ ...entry }).length, 0);
  assert.equal(getToolPluginMetadata(null), undefined);
});

test("a channel entry registers what the mode asks for", () => {
  const seen = [];
  const entry = defineChannelPluginEntry({
    id: "c", plugin: { id: "c" }, setRuntime: () => seen.push("runtime"), registerFull: () => seen.push("full"),
    registerCliMetadata: () => seen.push("cli"), registerCapabilities: () => seen.push("capabilities"),
  });
  const run = (registrationMode) => {
    entry.register({ registrationMode, registerChannel: () => seen.push("channel") });
    return seen.splice(0).join();
  };
  assert.equal(run("full"), "channel,runtime,cli,full,capabilities");
  assert.equal(run("discovery"), "channel,runtime,cli,capabilities");
  assert.equal(run("tool-discovery"), "full,capabilities");
  assert.equal(run("cli-metadata"), "cli");
  assert.equal(run("setup-only"), "channel,runtime");
});

for (const [name, args, want] of [
  ["normalizeOptionalString", ["  "], undefined], ["normalizeNullableString", [3], null],
  ["normalizeBoundedOptionalString", [" abc ", 3], "abc"], ["normalizeBoundedOptionalString", ["abcd", 3], undefined],
  ["normalizeStringifiedOptionalString", [7n], "7"], ["normalizeStringifiedOptionalString", [{}], undefined],
  ["normalizeOptionalStringifiedId", [7.9], "7"], ["normalizeOptionalStringifiedId", [NaN], undefined],
  ["normalizeFastMode", ["ON"], true], ["normalizeFastMode", ["auto"], "auto"], ["normalizeFastMode", ["maybe"], undefined],
  ["normalizeStringEntries", [[" a ", 1, ""]], ["a", "1"]], ["normalizeTrimmedStringList", [[" a ", 1, ""]], ["a"]],
  ["normalizeSingleOrTrimmedStringList", [" a "], ["a"]], ["normalizeOptionalTrimmedStringList", [[""]], undefined],
  ["sortUniqueStrings", [["b", "a", "b"]], ["a", "b"]], ["summarizeStringEntries", [{ entries: ["a", "b", "c"], limit: 2 }], "a, b (+1)"],
  ["normalizeHyphenSlug", [" My  Café/Bar. "], "my-café-bar"], ["normalizeAtHashSlug", ["#General_Chat!"], "general-chat"],
  ["isRecord", [[]], false], ["isRecord", [{}], true], ["asRecord", [null], {}], ["asOptionalRecord", [[]], undefined],
  ["filterStringRecord", [{ a: "x", b: 1 }], { a: "x" }], ["filterStringRecord", [{ b: 1 }], undefined],
  ["asFiniteNumberInRange", [5, { min: 5, minExclusive: true }], undefined], ["asPositiveSafeInteger", [0], undefined],
  ["parseStrictFiniteNumber", [" 1e3 "], 1000], ["parseStrictFiniteNumber", ["1x"], undefined], ["parseStrictFiniteNumber", [""], undefined],
  ["parseStrictInteger", ["-7"], -7], ["parseStrictInteger", ["7.0"], undefined], ["parseStrictInteger", [1.5], undefined],
  ["parseStrictPositiveInteger", ["0"], undefined], ["parseStrictNonNegativeInteger", ["0"], 0],
  ["parseBooleanValue", ["Yes"], true], ["parseBooleanValue", ["2"], undefined], ["parseBooleanValue", [false], false],
  ["truncateUtf16Safe", ["a😀b", 2], "a"], ["truncateUtf16Safe", ["abc", 5], "abc"],
]) {
  test(`${name}(${args.map((arg) => (typeof arg === "bigint" ? `${arg}n` : JSON.stringify(arg)))})`, () => {
    assert.deepEqual(coerce[name](...args), want);
  });
}

test("parameters are read in camelCase and snake_case", () => {
  const given = { chat_id: " 5 ", maxItems: "3.7", flag: "TRUE", tags: [" a ", ""], ratio: "x", empty: "" };
  assert.equal(params.readStringParam(given, "chatId"), "5");
  assert.equal(params.readStringParam(given, "chatId", { trim: false }), " 5 ");
  assert.equal(params.readStringParam(given, "empty"), undefined);
  assert.equal(params.readStringParam(given, "empty", { allowEmpty: true }), "");
  assert.throws(() => params.readStringParam(given, "none", { required: true, label: "Chat" }), { message: "Chat required", status: 400 });
  assert.equal(params.readNumberParam(given, "maxItems", { integer: true }), 3);
  assert.equal(params.readNumberParam(given, "chatId", { strict: true, positiveInteger: true }), 5);
  assert.equal(params.readNumberParam(given, "maxItems", { positiveInteger: true }), undefined);
  assert.equal(params.readPositiveIntegerParam(given, "chatId", { max: 5 }), 5);
  assert.equal(params.readPositiveIntegerParam(given, "none"), undefined);
  assert.throws(() => params.readPositiveIntegerParam(given, "chatId", { max: 4 }), /chatId must be a positive integer/);
  assert.throws(() => params.readFiniteNumberParam(given, "ratio"), /ratio must be a finite number/);
  assert.equal(params.readBooleanParam(given, "flag"), true);
  assert.deepEqual(params.readStringArrayParam(given, "tags"), ["a"]);
  assert.deepEqual(params.readReactionParams({ emoji: "👍" }, { removeErrorMessage: "which?" }), { emoji: "👍", remove: false, isEmpty: false });
  assert.throws(() => params.readReactionParams({ emoji: "", remove: true }, { removeErrorMessage: "which?" }), /which\?/);
  assert.equal(params.createActionGate({ a: false })("a"), false);
  assert.equal(params.createActionGate(undefined)("b"), true);
});

test("schemas carry the marks of both generations of TypeBox, unseen", () => {
  const schema = optionalStringEnum(["a"], { description: "d" });
  assert.equal(JSON.stringify(schema), '{"type":"string","enum":["a"],"description":"d"}');
  assert.equal(schema["~optional"], true);
  assert.equal(schema[Symbol.for("TypeBox.Optional")], "Optional");
  assert.equal(stringEnum({ A: "a" })[Symbol.for("TypeBox.Kind")], "Unsafe");
  assert.deepEqual({ ...stringEnum([]) }, { type: "string" });
});

for (const [peer, session, want] of [
  [{ kind: "direct", id: "Bob" }, {}, "agent:main:main"],
  [{ kind: "direct", id: "Bob" }, { dmScope: "per-peer" }, "agent:main:direct:bob"],
  [{ kind: "direct", id: "Bob" }, { dmScope: "per-channel-peer" }, "agent:main:irc:direct:bob"],
  [{ kind: "direct", id: "Bob" }, { dmScope: "per-account-channel-peer" }, "agent:main:irc:default:direct:bob"],
  [{ kind: "direct", id: "Bob" }, { dmScope: "per-peer", identityLinks: { robert: ["irc:bob"] } }, "agent:main:direct:robert"],
  [{ kind: "group", id: "#Chat" }, {}, "agent:main:irc:group:#chat"],
  [{ kind: "group", id: "#Chat" }, { groupScope: "main", mainKey: "home" }, "agent:main:home"],
]) {
  test(`the session of ${JSON.stringify([peer, session])}`, () => {
    const route = buildChannelOutboundSessionRoute({ cfg: { session }, agentId: "Main", channel: "IRC", peer, chatType: peer.kind, from: "a", to: "b" });
    assert.deepEqual(route, { sessionKey: want, baseSessionKey: want, peer, chatType: peer.kind, from: "a", to: "b" });
  });
}

test("small channel helpers", () => {
  assert.equal(buildAgentSessionKey({ agentId: "", channel: "x" }), "agent:main:main");
  assert.deepEqual(["", " My Account! ", "__proto__", "ok_1"].map(normalizeAccountId), ["default", "my-account", "__proto__", "ok_1"].map((id) => (id === "__proto__" ? "default" : id)));
  assert.equal(stripChannelTargetPrefix(" IRC: #x", "slack", "irc"), "#x");
});

test("web-search settings", () => {
  const fields = createWebSearchProviderContractFields({
    credentialPath: "p", searchCredential: { type: "scoped", scopeId: "brave" }, configuredCredential: { pluginId: "brave" },
  });
  const config = {};
  fields.setConfiguredCredentialValue(config, "key");
  assert.deepEqual(config, { plugins: { entries: { brave: { enabled: true, config: { webSearch: { apiKey: "key" } } } } } });
  assert.equal(fields.getConfiguredCredentialValue(config), "key");
  const search = {};
  fields.setCredentialValue(search, "k");
  assert.equal(fields.getCredentialValue(search), "k");
  assert.throws(() => createWebSearchProviderContractFields({ searchCredential: { type: "odd" } }), /unsupported/);
  const merged = mergeScopedSearchConfig({ apiKey: "old", n: 1 }, "brave", { apiKey: "new" }, { mirrorApiKeyToTopLevel: true });
  assert.deepEqual([{ ...merged }, merged.brave], [{ n: 1, apiKey: "new" }, { apiKey: "new" }]);
});

test("errors, flags, references and queues", async () => {
  assert.equal(formatErrorMessage(new Error("a", { cause: new Error("b") })), "a | b");
  assert.equal(formatErrorMessage({ code: 1 }), '{"code":1}');
  const config = { diagnostics: { flags: ["Web.*", "x"] } };
  assert.deepEqual(["web", "web.search", "X", "y", ""].map((flag) => isDiagnosticFlagEnabled(flag, config)), [true, true, true, false, false]);
  assert.equal(isSecretRef({ source: "env", provider: "default", id: "KEY" }), true);
  assert.equal(isSecretRef({ source: "env", provider: "default", id: "KEY", more: 1 }), false);
  const queue = new KeyedAsyncQueue();
  const seen = [];
  const gate = Promise.withResolvers();
  const first = queue.enqueue("a", () => gate.promise.then(() => seen.push(1)));
  const second = queue.enqueue("a", () => seen.push(2));
  await queue.enqueue("b", () => seen.push("other"));
  gate.reject(new Error("no"));
  await assert.rejects(first);
  await second;
  assert.deepEqual(seen, ["other", 2]);
});
