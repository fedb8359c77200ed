// What the attackers share: the form of a plugin, and telling what became of
// an attempt.
import { spawn, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const parameters = { type: "object" };

/** A plugin with those tools: an object of functions that take parameters. */
export const plugin = (id, tools, more) => ({
  id,
  register(api) {
    for (const [name, execute] of Object.entries(tools)) {
      api.registerTool({ name, description: name, parameters, execute: async (_, params) => execute(params, api) });
    }
    more?.(api);
  },
});

/** What became of one attempt: "ok" with what it got, or the code of its error. */
export async function attempt(action) {
  try {
    const got = await action();
    return got === undefined ? "ok" : `ok ${typeof got === "string" ? got : JSON.stringify(got)}`;
  } catch (error) {
    return String(error?.cause?.code ?? error?.code ?? error);
  }
}

/** What became of each of some attempts, made one after the other. */
export async function attempts(actions) {
  const became = {};
  for (const [name, action] of Object.entries(actions)) became[name] = await attempt(action);
  return became;
}

const program = fileURLToPath(new URL("syscalls", import.meta.url));

/** Runs the program for system calls, which answers with an object as attempts does. */
export function syscalls(...args) {
  const ran = spawnSync(program, args, { encoding: "utf8", timeout: 20_000 });
  if (ran.error) throw ran.error;
  if (ran.status !== 0) throw new Error(`${args[0]}: ${ran.signal ?? ran.status} ${ran.stderr.slice(0, 500)}`);
  return JSON.parse(ran.stdout);
}

/** Starts the program for system calls and leaves it running. */
export const start = (...args) => spawn(program, args, { detached: true, stdio: "ignore" }).unref();
