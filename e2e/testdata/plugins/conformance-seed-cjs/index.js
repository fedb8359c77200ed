// Everything that a plugin of the document's form can do, as CommonJS.
const { appendFileSync, readFileSync, writeFileSync } = require("node:fs");
const { join } = require("node:path");
const { setTimeout: sleep } = require("node:timers/promises");

const ID = "conformance-seed-cjs";
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

class BlockError extends Error {}

/** Marks the text of messages, or refuses them. */
async function handler(payload) {
  record(structuredClone(payload));
  if (typeof payload.text !== "string") return;
  if (payload.text.includes("forbidden")) throw new BlockError(`${ID} forbids this text`);
  if (payload.text.includes("hang-me")) await new Promise(() => {});
  payload.text += ` [seen by ${ID}]`;
}

const tools = Object.entries(TOOLS).map(([name, [parameters, execute]]) => ({
  name, description: `${name} of ${ID}`, parameters,
  execute: async (params, { config, stateDir }) => execute(params, { config, stateDir }),
}));

const hooks = [{ event: "agent:message:before", handler }];

const services = [service];

module.exports = { tools, hooks, services };
