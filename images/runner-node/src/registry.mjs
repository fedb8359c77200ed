// What the plugin has registered, in order, and how its tools are found.

import { cut, RunnerError } from "./errors.mjs";
import { newHook } from "./hookspec.mjs";
import { jsonStringify, push, SafeMap } from "./primordials.mjs";
import { spec } from "./serialise.mjs";
import { describeTool, toolsOf } from "./tools.mjs";

/** How many diagnostics are kept: the first ones say most. */
const MAX_DIAGNOSTICS = 200;

/**
 * @typedef {import("./tools.mjs").ToolSource} ToolSource
 * @typedef {object} Item one thing registered
 * @property {string} kind
 * @property {string} name
 * @property {number} entry the index of the entry that registered it
 * @property {"export" | "register"} form
 * @property {object} spec
 * @property {unknown[]} args what it was registered with, handlers included
 * @property {import("./hookspec.mjs").Hook} [hook] of kind "hook"
 * @property {import("./services.mjs").Source} [service] of kind "service"
 */

export class Registry {
  /** @type {{level: string, message: string}[]} */
  diagnostics = [];
  /** @type {(Item | ToolSource)[]} */
  #items = [];
  /** @type {Map<string, ToolSource>} */
  #tools = new SafeMap();
  #names = new Set();
  /** @type {Map<number, import("./hookspec.mjs").Hook>} by the index of the registration */
  #hooks = new SafeMap();
  /** @type {Map<string, import("./services.mjs").Source>} in order */
  #services = new Map();

  /**
   * diagnose notes something that the author or the operator should know.
   * @param {"info" | "warn" | "error"} level
   * @param {string} message
   */
  diagnose(level, message) {
    if (this.diagnostics.length < MAX_DIAGNOSTICS) this.diagnostics.push({ level, message: cut(message, 1024) });
  }

  /**
   * add records a registration of any kind but "tool". Of two with one kind
   * and name the first is kept; hooks may share an event.
   * @param {Omit<Item, "spec"> & {about: unknown}} item about is what its spec is made from
   */
  add({ about, ...item }) {
    const key = jsonStringify([item.kind, item.name]);
    if (item.kind !== "hook" && item.name !== "" && this.#names.has(key)) {
      return this.diagnose("warn", `${item.kind} ${item.name} is registered twice; the first is kept`);
    }
    this.#names.add(key);
    this.#items.push({ ...item, spec: spec(about) });
    if (item.service) this.#services.set(item.name, item.service);
  }

  /**
   * addHook records a hook of either form.
   * @param {object} hook
   * @param {number} hook.entry
   * @param {"export" | "register"} hook.form
   * @param {Parameters<typeof newHook>[0]} registration
   */
  addHook({ entry, form }, registration) {
    const hook = newHook(registration, (level, message) => this.diagnose(level, message));
    if (hook) this.#items.push({ kind: "hook", name: hook.event, entry, form, args: [], hook, spec: hook.spec });
    return hook !== null;
  }

  /**
   * addService records a service of either form, unless it has no id or
   * nothing to start.
   * @param {object} from
   * @param {number} from.entry
   * @param {"export" | "register"} from.form
   * @param {any} service
   */
  addService({ entry, form }, service) {
    const name = typeof service?.id === "string" ? service.id.trim() : "";
    if (!name || typeof service.start !== "function") return false;
    this.add({ kind: "service", name, entry, form, args: [service], service: { form, service }, about: service });
    return true;
  }

  /**
   * addTool records a tool or a factory of tools; which tools a factory makes
   * is asked in finish.
   * @param {ToolSource} source
   */
  addTool(source) {
    this.#items.push(source);
  }

  /**
   * finish makes the tools known and returns every registration as the host
   * is told of it. A tool name that occurs twice is an error.
   * @param {object} context the factories' context
   */
  finish(context) {
    const registrations = [];
    const diagnose = (level, message) => this.diagnose(level, message);
    for (const item of this.#items) {
      if (item.kind !== "tool") {
        const { kind, name, entry, form, spec, hook } = item;
        if (hook) this.#hooks.set(registrations.length, hook);
        registrations.push({ kind, name, entry, form, spec });
        continue;
      }
      for (const tool of toolsOf(item, context, diagnose)) {
        if (this.#tools.has(tool.name)) {
          throw new RunnerError("duplicate", `tool ${tool.name} is registered twice`);
        }
        this.#tools.set(tool.name, item);
        const { entry, form } = item;
        registrations.push({ kind: "tool", name: tool.name, entry, form, spec: describeTool(tool, item, diagnose) });
      }
    }
    return registrations;
  }

  /**
   * toolSource is where a tool comes from.
   * @param {string} name
   */
  toolSource(name) {
    return this.#tools.get(name);
  }

  /**
   * hook is the hook whose registration has an index.
   * @param {number} index
   */
  hook(index) {
    return this.#hooks.get(index);
  }

  /** The services by id, in order. */
  get services() {
    return this.#services;
  }

  /** The names of all tools. */
  get toolNames() {
    const names = [];
    this.#tools.forEach((_, name) => push(names, name));
    return names;
  }
}
