// Everything that a plugin of the register form can do, as CommonJS.
const { appendFileSync, readFileSync, writeFileSync } = require("node:fs");
const { join } = require("node:path");
const { setTimeout: sleep } = require("node:timers/promises");

const ID = "conformance-register-cjs";
const FAIL_STARTS = "fail-starts"; // in the state directory: how many starts of the service shall still fail

/** What handlers and the service leave here for the tools. */
const events = [];
const resolutions = [];
const heart = { starts: 0, stops: 0, running: false };
let health, gatewayEvents;

const object = (properties, ...required) => ({ type: "object", properties, required });
const string = { type: "string" };
const number = { type: "number", minimum: 0 };

/** The tools: parameters, and a function of the parameters and {config, stateDir, signal, onUpdate}. */
const TOOLS = {
  echo: [object({ text: string }, "text"), ({ text }) => ({ text })],
  slow: [object({ ms: number }, "ms"), slow],
  fetch: [object({ url: string }, "url"), fetchURL],
  read: [object({ path: string }, "path"), read],
  env: [object({ name: string }, "name"), ({ name }) => ({ value: process.env[name] ?? null })],
  config: [object({ path: string }), ({ path = "" }, { config }) => ({ value: find(config, path) ?? null })],
  counter: [object({}), () => heart],
  seen: [object({}), () => ({ events, resolutions })],
  emit: [object({ event: string, payload: {} }, "event"), ({ event, payload }) => {
    gatewayEvents.emit(event, payload ?? null, { scope: "operator.read" });
    return { sent: true };
  }],
  crash: [object({
    how: { enum: ["report", "clear", "exit", "reject", "fail-starts"] },
    reason: string, code: number, times: number,
  }, "how"), crash],
};

/** Waits in four steps and tells of each, or until it is aborted. */
async function slow({ ms }, { signal, onUpdate }) {
  for (let step = 1; step <= 4; step++) {
    try {
      await sleep(ms / 4, undefined, { signal });
    } catch (error) {
      console.log("slow aborted");
      throw error;
    }
    onUpdate?.({ step, steps: 4 });
  }
  return { waited: ms };
}

async function fetchURL({ url }) {
  try {
    const response = await fetch(url);
    return { status: response.status, body: await response.text() };
  } catch (error) {
    return { error: error.cause?.code ?? error.code ?? error.name };
  }
}

function read({ path }) {
  try {
    return { text: readFileSync(path, "utf8") };
  } catch (error) {
    return { error: error.code };
  }
}

const find = (config, path) => path.split(".").filter(Boolean).reduce((value, key) => value?.[key], config);

function crash({ how, reason = "asked to fail", code = 7, times = 1 }, { stateDir }) {
  switch (how) {
    case "report":
      health.reportFailure(new Error(reason));
      break;
    case "clear":
      health.clearFailure();
      break;
    case "exit":
      setTimeout(() => process.exit(code), 20);
      break;
    case "reject":
      setTimeout(() => Promise.reject(new Error(reason)), 20);
      break;
    case "fail-starts":
      writeFileSync(join(stateDir, FAIL_STARTS), String(times));
  }
  return { how };
}

const service = {
  id: "heart",
  start(context) {
    const file = join(context.stateDir, FAIL_STARTS);
    const failures = Number(read({ path: file }).text ?? 0);
    if (failures > 0) {
      writeFileSync(file, String(failures - 1));
      throw new Error(`heart does not start, ${failures - 1} more times`);
    }
    ({ serviceHealth: health, gatewayEvents } = context);
    heart.starts++;
    heart.running = true;
    note(context, "start");
  },
  stop(context) {
    heart.stops++;
    heart.running = false;
    note(context, "stop");
  },
};

function note({ stateDir, logger }, line) {
  logger.info(`heart ${line}`);
  appendFileSync(join(stateDir, "service.log"), `${line}\n`);
}

const record = (event) => {
  events.push(event);
  if (events.length > 100) events.shift();
};

/** Marks what is sent, or cancels it. */
async function messageSending({ content }) {
  if (typeof content !== "string") return undefined;
  if (content.includes("forbidden")) return { cancel: true, cancelReason: `${ID} forbids this text` };
  return { content: `${content} [seen by ${ID}]` };
}

/** Rewrites, blocks or asks, as the text says. */
async function beforeToolCall({ params }) {
  const text = params?.text;
  if (typeof text !== "string") return undefined;
  if (text.includes("hang-me")) await new Promise(() => {});
  if (text.includes("block-me")) return { block: true, blockReason: `${ID} blocks this call` };
  const rewritten = text.includes("rewrite-me") ? { params: { ...params, text: text.replaceAll("rewrite-me", "rewritten") } } : {};
  if (!text.includes("ask-me")) return rewritten;
  return {
    ...rewritten,
    requireApproval: {
      title: "A call that asks", description: `${ID} wants a person to look at: ${text}`, severity: "warning",
      onResolution: (decision) => void resolutions.push(decision),
    },
  };
}

function register(api) {
  const { config } = api;
  const stateDir = api.runtime.state.resolveStateDir();
  for (const [name, [parameters, execute]] of Object.entries(TOOLS)) {
    api.registerTool({
      name, label: name, description: `${name} of ${ID}`, parameters,
      execute: async (id, params, signal, onUpdate) => execute(params, { config, stateDir, signal, onUpdate }),
    });
  }
  api.on("message_sending", messageSending);
  api.on("before_tool_call", beforeToolCall, { priority: 10 });
  api.on("message_received", record);
  api.registerService(service);
}

module.exports = { id: ID, register };
