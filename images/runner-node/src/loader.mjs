// Loading a plugin: import its entries, let them register, and say what came
// of it.

import { mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { basename, extname, resolve, sep } from "node:path";
import { pathToFileURL } from "node:url";
import { createApi } from "./api.mjs";
import { defaultWorkspace, factoryContext, ownConfig } from "./context.mjs";
import { findExports, findRegister, registerExports } from "./entry.mjs";
import { applyEnv, isReserved } from "./env.mjs";
import { describe, RunnerError } from "./errors.mjs";
import { learn } from "./learn.mjs";
import { Lifecycle } from "./lifecycle.mjs";
import { createLogger } from "./logger.mjs";
import { Registry } from "./registry.mjs";
import { createRuntime } from "./runtime.mjs";
import { explain, installHooks } from "./sdk/hooks.mjs";

/**
 * @typedef {object} Plugin a loaded plugin
 * @property {object} load
 * @property {object} config
 * @property {object} logger
 * @property {Registry} registry
 * @property {Lifecycle} lifecycle
 * @property {object[]} registrations
 */

/**
 * loadPlugin sets the granted environment and imports every entry in order. It throws a RunnerError when the
 * plugin cannot be loaded; the registry's diagnostics are filled either way.
 * @param {object} load the host's message
 * @param {Registry} registry
 * @param {object} told what the host is told
 * @param {(record: {level: string, msg: string}) => void} told.logged what the plugin's logger writes
 * @param {Parameters<typeof learn>[0]["wish"]} told.wish what the plugin wishes for, in learn mode
 * @returns {Promise<Plugin>}
 */
export async function loadPlugin(load, registry, { logged, wish }) {
  applyEnv(load.env, (level, message) => registry.diagnose(level, message));
  installHooks();
  enterHome();
  const config = ownConfig(load);
  if (load.learn) learn({ plugin: load.plugin, config, grantable: (name) => !isReserved(name), wish });
  const logger = createLogger(load.plugin, (line, record) => {
    process.stdout.write(line);
    logged(record);
  });
  const lifecycle = new Lifecycle();
  const runtime = createRuntime({ config, stateDir: load.stateDir, plugin: load.plugin, lifecycle });
  const plugin = { load, config, logger, registry, lifecycle };
  for (const [entry, path] of load.entries.entries()) await loadEntry({ ...plugin, runtime, entry, path });
  const registrations = registry.finish(factoryContext(load, config));
  noteUndeclared(load, registry);
  return { ...plugin, registrations };
}

/**
 * A plugin starts in its home, where it may write, with a workspace below it:
 * in OpenClaw both are there. Where there is no home, it will say so itself.
 */
function enterHome() {
  try {
    mkdirSync(defaultWorkspace(), { recursive: true });
    process.chdir(homedir());
  } catch (error) {
    process.stderr.write(`runner: cannot enter the home directory: ${describe(error).message}\n`);
  }
}

async function loadEntry({ load, config, logger, registry, lifecycle, runtime, entry, path }) {
  const source = entryPath(load.root, path);
  const exports = await importEntry(source, path);
  const found = findExports(exports);
  const definition = findRegister(exports);
  if (!found && !definition) {
    throw new RunnerError("no_entry", `${path} exports no plugin: no tools, hooks or services, and no register function`);
  }
  if (found) registerExports(found, registry, entry);
  if (!definition) return;
  checkId(load, definition.id, path);
  const { api, close } = createApi({ load, entry, source, config, runtime, logger, registry, lifecycle });
  try {
    register(definition, api, path);
  } finally {
    close();
  }
}

/** An entry lies in the package: a manifest cannot point elsewhere. */
function entryPath(root, path) {
  const source = resolve(root, path);
  if (source.startsWith(resolve(root) + sep)) return source;
  throw new RunnerError("load", `entry ${path} is outside the package`);
}

async function importEntry(source, path) {
  try {
    return await import(pathToFileURL(source).href);
  } catch (error) {
    throw new RunnerError("load", `cannot import ${path}: ${explain(error) ?? describe(error).message}`, error);
  }
}

function register(definition, api, path) {
  let result;
  try {
    result = definition.register(api);
  } catch (error) {
    throw new RunnerError("register", `register of ${path} threw: ${describe(error).message}`, error);
  }
  if (typeof result?.then !== "function") return;
  result.then(undefined, () => {}); // reported below; its own failure adds nothing
  throw new RunnerError("async_register", "plugin register must be synchronous");
}

/** A package with several entries may give each an id of its own: <id>/<file name>. */
function checkId(load, id, path) {
  const manifestId = load.manifest?.id;
  if (typeof id !== "string" || !id || typeof manifestId !== "string") return;
  if (id === manifestId || id === `${manifestId}/${basename(path, extname(path))}`) return;
  throw new RunnerError("id_mismatch", `plugin id mismatch: the manifest says ${manifestId}, ${path} exports ${id}`);
}

function noteUndeclared({ manifest }, registry) {
  const declared = new Set(manifest?.contracts?.tools ?? []);
  const missing = manifest ? registry.toolNames.filter((name) => !declared.has(name)) : [];
  if (missing.length === 0) return;
  registry.diagnose("warn", `openclaw.plugin.json does not declare in contracts.tools: ${missing.join(", ")}; OpenClaw 2026.9.6 refuses such tools`);
}
