// Recognising a plugin in the exports of a module.

import { RunnerError } from "./errors.mjs";

/** How many nested exports are looked at. */
const MAX_CANDIDATES = 12;

/**
 * @typedef {object} Definition
 * @property {(api: object) => unknown} register
 * @property {string} [id]
 */

/**
 * findRegister finds the register form in a module's exports: a function, or
 * an object with register (or activate, as older plugins call it), below any
 * number of "default", or under "module".
 * @param {unknown} exports
 * @returns {Definition | null}
 */
export function findRegister(exports) {
  const candidates = [unwrap(exports), exports];
  const seen = new Set();
  for (let i = 0; i < candidates.length && i < MAX_CANDIDATES; i++) {
    const candidate = candidates[i];
    if (seen.has(candidate)) continue;
    seen.add(candidate);
    if (typeof candidate === "function") return { register: candidate };
    if (candidate === null || typeof candidate !== "object") continue;
    const register = candidate.register ?? candidate.activate;
    if (typeof register === "function") return { register: (api) => register.call(candidate, api), id: candidate.id };
    for (const key of ["default", "module"]) if (key in candidate) candidates.push(candidate[key]);
  }
  return null;
}

/**
 * findExports finds the document form: the arrays tools, hooks and services,
 * exported by name or in the default export.
 * @param {unknown} exports
 * @returns {{tools: object[], hooks: object[], services: object[]} | null}
 */
export function findExports(exports) {
  for (const candidate of [exports, unwrap(exports)]) {
    if (candidate === null || typeof candidate !== "object") continue;
    const { tools, hooks, services } = candidate;
    if (![tools, hooks, services].some(Array.isArray)) continue;
    return { tools: listed(tools, "tools"), hooks: listed(hooks, "hooks"), services: listed(services, "services") };
  }
  return null;
}

function unwrap(exports) {
  const seen = new Set();
  let value = exports;
  while (value !== null && typeof value === "object" && "default" in value && !seen.has(value)) {
    seen.add(value);
    value = value.default;
  }
  return value;
}

function listed(value, name) {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw new RunnerError("register", `the export "${name}" is not an array`);
  return value;
}

/**
 * registerExports records what a document-form module exports.
 * @param {{tools: object[], hooks: object[], services: object[]}} found
 * @param {import("./registry.mjs").Registry} registry
 * @param {number} entry
 */
export function registerExports({ tools, hooks, services }, registry, entry) {
  const form = "export";
  for (const tool of tools) registry.addTool({ kind: "tool", entry, form, tool, names: [], optional: tool?.optional === true });
  for (const hook of hooks) {
    const handler = typeof hook?.handler === "function" ? (payload, context) => hook.handler(payload, context) : undefined;
    if (!registry.addHook({ entry, form }, { event: hook?.event, handler, options: hook, registrar: "export" })) {
      registry.diagnose("error", "an exported hook has no event or no handler; it is left out");
    }
  }
  for (const service of services) {
    if (!registry.addService({ entry, form }, service)) {
      registry.diagnose("error", "an exported service has no id or no start; it is left out");
    }
  }
}
