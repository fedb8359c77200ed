// Module hooks: the OpenClaw SDK for plugins that do not bring it, and
// TypeScript where Node alone would not take it.

import { createRequire, registerHooks } from "node:module";
import { compileFunction } from "node:vm";
import { loadTypeScript, resolveTypeScript } from "./typescript.mjs";

const SPECIFIER = /^@?openclaw\/plugin-sdk(?:\/(.+))?$/;
const SCHEME = "ocmt-sdk:";
/** Where the generated modules find the shim. */
const SHIM = Symbol.for("ocmt.sdk");

/** @type {Map<string, object> | null} the shim, see sdk */
let loaded = null;
/** The specifiers that the shim has answered. */
const served = new Set();
let installed = false;

/** installHooks makes the SDK importable. Calling it again changes nothing. */
export function installHooks() {
  if (installed) return;
  installed = true;
  Object.defineProperty(globalThis, SHIM, { get: sdk });
  registerHooks({ resolve, load });
}

/**
 * sdk is the shim's modules by sub-path. A plugin that does without them does
 * not wait for them: in the bundle they are a text, which is compiled here.
 */
function sdk() {
  return (loaded ??= (typeof OCMT_SDK_SOURCE === "string" ? compile(OCMT_SDK_SOURCE) : createRequire(import.meta.url)("./index.mjs")).SDK);
}

function compile(source) {
  const module = { exports: {} };
  compileFunction(source, ["module", "require"], { filename: "ocmt-sdk.js" })(module, createRequire(__filename));
  return module.exports;
}

function resolve(specifier, context, next) {
  const match = SPECIFIER.exec(specifier);
  if (!match) return resolveTypeScript(specifier, context, next);
  try {
    return next(specifier, context);
  } catch (error) {
    if (!MISSING.has(error.code)) throw error;
    return shim(specifier, (match[1] ?? "").replace(/\.js$/, ""));
  }
}

/** A package that is not there, or one that does not have the sub-path. */
const MISSING = new Set(["ERR_MODULE_NOT_FOUND", "MODULE_NOT_FOUND", "ERR_PACKAGE_PATH_NOT_EXPORTED"]);

function shim(specifier, path) {
  if (!sdk().has(path)) {
    throw Object.assign(new Error(`${specifier} is not in the built-in SDK: this plugin needs the full openclaw SDK`), { code: "ERR_OCMT_SDK" });
  }
  served.add(specifier);
  return { url: SCHEME + path, format: "module", shortCircuit: true };
}

function load(url, context, next) {
  if (!url.startsWith(SCHEME)) return loadTypeScript(url, context, next);
  return { format: "module", shortCircuit: true, source: generate(url.slice(SCHEME.length)) };
}

/**
 * generate writes the module of a sub-path: an import of a name that it lacks
 * fails when the plugin is linked. A CommonJS plugin gets the object under
 * "module.exports", which fails at the first use of such a name.
 */
function generate(path) {
  const exports = sdk().get(path);
  const names = Object.keys(exports).map((name) => `export const ${name} = sdk[${JSON.stringify(name)}];`);
  return `const sdk = globalThis[Symbol.for("ocmt.sdk")].get(${JSON.stringify(path)});
${names.join("\n")}
const cjs = new Proxy({ ...sdk, __esModule: true }, {
  get(target, key) {
    if (typeof key === "symbol" || key in target || key === "default" || key === "then") return target[key];
    throw new Error(${JSON.stringify(missing(path))}.replace("%", key));
  },
});
export { cjs as "module.exports" };
`;
}

const missing = (path) => `openclaw/plugin-sdk${path && `/${path}`}: the built-in SDK has no export %: this plugin needs the full openclaw SDK`;

const NO_EXPORT = /module '([^']+)' does not provide an export named '([^']+)'/;

/**
 * explain says what a failed import means where it is about the SDK.
 * @param {unknown} error
 * @returns {string | null}
 */
export function explain(error) {
  const match = NO_EXPORT.exec(String(error?.message));
  if (!match || !served.has(match[1])) return null;
  return missing("").replace("openclaw/plugin-sdk", match[1]).replace("%", match[2]);
}
