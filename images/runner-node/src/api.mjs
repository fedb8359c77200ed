// The api object that register(api) is given.

import { homedir } from "node:os";
import { resolve } from "node:path";
import { FACADES, HOST_FUNCTIONS, kindOf, nameOf, REGISTRARS } from "./registrars.mjs";
import { notAvailable } from "./unavailable.mjs";

/** The registrars of OpenClaw before 2026.9 that it no longer has, and anything that a later one may add. */
const REGISTRAR_LIKE = /^register[A-Z]/;

/**
 * createApi makes the api of one entry. close ends the time to register: as
 * in OpenClaw, what is registered later is ignored, with a warning in the log.
 * @param {object} options
 * @param {object} options.load
 * @param {number} options.entry
 * @param {string} options.source the entry's file
 * @param {object} options.config
 * @param {object} options.runtime
 * @param {object} options.logger
 * @param {import("./registry.mjs").Registry} options.registry
 * @param {import("./lifecycle.mjs").Lifecycle} options.lifecycle
 */
export function createApi({ load, entry, source, config, runtime, logger, registry, lifecycle }) {
  let closed = false;
  const guard = (name, register) => (...args) => {
    if (!closed) return register(...args);
    logger.warn(`api.${name} was called after register returned; it is ignored`);
    return undefined;
  };
  const record = (name) => guard(name, (...args) => {
    registry.add({ kind: kindOf(name), name: nameOf(args), entry, form: "register", args, about: aboutOf(args) });
  });
  const manifest = load.manifest ?? {};
  const api = {
    id: load.plugin,
    name: manifest.name ?? load.name,
    version: manifest.version ?? load.version,
    description: manifest.description,
    source,
    runtimeSource: source,
    rootDir: load.root,
    registrationMode: "full", // in a load check too: it must see what a real load registers
    config,
    pluginConfig: load.pluginConfig ?? {},
    runtime,
    logger,
    resolvePath,
    registerTool: guard("registerTool", (tool, options) => addTool(registry, entry, tool, options)),
    registerHook: guard("registerHook", (events, handler, options) => {
      if (options?.register === false) return; // OpenClaw only lists such a hook
      for (const event of [events].flat()) addHook(registry, entry, { event, handler, options, registrar: "registerHook" });
    }),
    on: guard("on", (event, handler, options) => addHook(registry, entry, { event, handler, options, registrar: "on" })),
    registerService: guard("registerService", (service) => {
      if (!registry.addService({ entry, form: "register" }, service)) {
        registry.diagnose("error", "api.registerService needs an id and a start function; one registration is left out");
      }
    }),
  };
  for (const name of REGISTRARS) api[name] = record(name);
  for (const name of HOST_FUNCTIONS) api[name] = notAvailable(`api.${name}`);
  attachFacades(api, lifecycle);
  const proxy = new Proxy(api, {
    get(target, key, receiver) {
      if (typeof key === "symbol" || key in target || !REGISTRAR_LIKE.test(key)) return Reflect.get(target, key, receiver);
      registry.diagnose("warn", `api.${key} is not known to this host; what it registers is recorded and not used`);
      return (target[key] = record(key));
    },
  });
  return { api: proxy, close: () => (closed = true) };
}

/** The description of a registration: its object, and its options beside it. */
function aboutOf(args) {
  const objects = args.filter((arg) => arg !== null && typeof arg === "object" && !Array.isArray(arg));
  return Object.assign({}, ...objects.map((arg) => arg.plugin && Object.keys(arg).length === 1 ? arg.plugin : arg));
}

function addTool(registry, entry, tool, options) {
  const names = [...(options?.names ?? []), options?.name].filter((name) => typeof name === "string" && name.trim());
  const source = { kind: "tool", entry, form: "register", names: names.map((name) => name.trim()), optional: options?.optional === true };
  if (typeof tool === "function") return registry.addTool({ ...source, create: tool });
  if (tool && typeof tool === "object" && "contextVersion" in tool) {
    if (tool.contextVersion === 2 && typeof tool.create === "function") {
      return registry.addTool({ ...source, create: (context) => tool.create(context) });
    }
    return registry.diagnose("error", "a tool factory with an unsupported context version was registered; it is left out");
  }
  registry.addTool({ ...source, tool, names: [] });
}

function addHook(registry, entry, registration) {
  if (registry.addHook({ entry, form: "register" }, registration)) return;
  registry.diagnose("error", `api.${registration.registrar} needs an event and a handler; one registration is left out`);
}

function attachFacades(api, lifecycle) {
  api.lifecycle = { signal: lifecycle.signal, onDispose: (callback) => lifecycle.onDispose(callback) };
  for (const [path, names] of Object.entries(FACADES)) {
    let group = api;
    for (const key of path.split(".")) group = group[key] ??= {};
    for (const name of names) group[name] = api[name];
  }
}

function resolvePath(input) {
  const text = String(input ?? "").trim();
  if (!text) return "";
  return resolve(text.replace(/^~(?=$|\/)/, homedir()));
}
