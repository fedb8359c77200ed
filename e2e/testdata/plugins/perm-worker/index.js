// A plugin that uses what it was granted, and says how that went.
import { connect } from "node:net";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const string = { type: "string" };
const number = { type: "number" };
const object = (properties, ...required) => ({ type: "object", properties, required });

/** The result of what fails by an error: its code. */
const attempt = (action) => {
  try {
    return action();
  } catch (error) {
    return { error: error.code ?? error.name };
  }
};

async function fetchURL({ url }) {
  try {
    const response = await fetch(url);
    return { status: response.status, body: await response.text() };
  } catch (error) {
    return { error: error.cause?.code ?? error.code ?? error.name };
  }
}

/** Connects, sends what it is told to, and returns what comes back. */
const send = ({ host, port, text }) => new Promise((resolve) => {
  const socket = connect({ host, port, timeout: 5000 });
  let body = "";
  socket.on("connect", () => socket.write(text));
  socket.on("data", (data) => (body += data));
  socket.on("timeout", () => socket.destroy());
  socket.on("error", (error) => resolve({ error: error.code, body }));
  socket.on("close", () => resolve({ body }));
});

/** Counts its calls in the state directory, and takes its time. */
async function count(stateDir, { ms = 0 }) {
  const file = join(stateDir, "count");
  const n = existsSync(file) ? Number(readFileSync(file, "utf8")) + 1 : 1;
  writeFileSync(file, String(n));
  await sleep(ms);
  return { n };
}

const find = (config, path) => path.split(".").filter(Boolean).reduce((value, key) => value?.[key], config);

function register(api) {
  const stateDir = api.runtime.state.resolveStateDir();
  const tool = (name, parameters, execute) =>
    api.registerTool({ name, description: name, parameters, execute: async (id, params) => execute(params) });
  tool("echo", object({ text: string }, "text"), ({ text }) => ({ text }));
  tool("fetch", object({ url: string }, "url"), fetchURL);
  tool("send", object({ host: string, port: number, text: string }, "host", "port", "text"), send);
  tool("read", object({ path: string }, "path"), ({ path }) => attempt(() => ({ text: readFileSync(path, "utf8") })));
  tool("write", object({ path: string, text: string }, "path", "text"),
    ({ path, text }) => attempt(() => (writeFileSync(path, text), {})));
  tool("env", object({ name: string }, "name"), ({ name }) => ({ value: process.env[name] ?? null }));
  tool("config", object({ path: string }), ({ path = "" }) => ({ value: find(api.config, path) ?? null }));
  tool("count", object({ ms: number }), (params) => count(stateDir, params));
  if (api.pluginConfig?.later) tool("later", object({}), () => ({ later: true }));
  api.registerTool((context) => ({
    name: "where", description: "where", parameters: object({}),
    execute: async () => ({ workspaceDir: context.workspaceDir ?? null }),
  }), { name: "where" });
  api.on("llm_output", () => {});
}

export default { id: "perm-worker", register };
