// TypeScript entries. Node strips types itself, but not below node_modules,
// not syntax such as enums, and it keeps imports of types. TypeScript sources
// also leave out file extensions, or write those of what they are built to.
// OpenClaw loads a local plugin's sources with a loader that takes all of it.

import { readFileSync } from "node:fs";
import { findPackageJSON, stripTypeScriptTypes } from "node:module";
import { fileURLToPath } from "node:url";

const SOURCE = /\.([cm]?)ts$/;
const RELATIVE = /^\.{1,2}(\/|$)/;
const NOT_FOUND = new Set(["ERR_MODULE_NOT_FOUND", "MODULE_NOT_FOUND", "ERR_UNSUPPORTED_DIR_IMPORT"]);

/**
 * Resolves as Node does, and then, from a plugin's own files, as TypeScript
 * and bundlers do. What packages below node_modules do not find stays so: they
 * may rely on it.
 */
export function resolveTypeScript(specifier, context, next) {
  try {
    return next(specifier, context);
  } catch (error) {
    if (!NOT_FOUND.has(error.code) || !RELATIVE.test(specifier) || !isOwn(context.parentURL ?? "")) throw error;
    for (const candidate of candidates(specifier)) {
      try {
        return next(candidate, context);
      } catch {
        continue;
      }
    }
    throw error;
  }
}

const isOwn = (url) => SOURCE.test(url) || (url.startsWith("file:") && !url.includes("/node_modules/"));

function candidates(specifier) {
  const path = specifier.replace(/\/$/, "");
  return [
    specifier.replace(/\.([cm]?)js$/, ".$1ts"),
    ...[".ts", ".js", ".mjs", ".json", "/index.ts", "/index.js"].map((ending) => path + ending),
  ];
}

/** Loads a TypeScript file as the JavaScript that it holds, and an imported JSON file that no attribute marks. */
export function loadTypeScript(url, context, next) {
  if (!url.startsWith("file:")) return next(url, context);
  if (url.endsWith(".json") && context.conditions?.includes("import") && !context.importAttributes?.type) return loadJSON(url);
  const kind = SOURCE.exec(url);
  if (!kind) return next(url, context);
  const file = fileURLToPath(url);
  const source = stripTypeScriptTypes(readFileSync(file, "utf8"), { mode: "transform", sourceUrl: url });
  if ((kind[1] || formatOf(source, url)) === "c") return { format: "commonjs", source, shortCircuit: true };
  return { format: "module", source: withGlobals(withoutTypeImports(source)), shortCircuit: true };
}

function loadJSON(url) {
  const value = JSON.stringify(JSON.parse(readFileSync(fileURLToPath(url), "utf8")));
  return { format: "module", source: `export default ${value};`, shortCircuit: true };
}

const MODULE_SYNTAX = /^\s*(import[\s{*"']|export[\s{*])/m;

/** The letter of the module system of a .ts file: "m" or "c". */
function formatOf(source, url) {
  if (MODULE_SYNTAX.test(source)) return "m";
  const manifest = findPackageJSON(url); // without any, Node answers with the file itself
  return manifest?.endsWith("/package.json") && JSON.parse(readFileSync(manifest, "utf8")).type === "module" ? "m" : "c";
}

const LEADING_IMPORTS = /^(?:(?:import(?:\s+[\w$*{]|\s*["'{*])[^;]*;|["']use strict["'];)\s*)*/;
const IMPORT_FROM = /import\s+(?:([\w$]+)\s*,?\s*)?(?:\{([^}]*)\}|(\*\s*as\s+[\w$]+))?\s*from\s*(["'][^"']+["'][^;]*);/g;

/**
 * withoutTypeImports drops what is imported and not used: without its types,
 * a source still imports them, and no module exports a type. TypeScript does
 * the same, whole declarations included.
 */
function withoutTypeImports(source) {
  const [head] = LEADING_IMPORTS.exec(source);
  const body = source.slice(head.length);
  const used = (name) => new RegExp(`(?<![\\w$])${name.replaceAll("$", "\\$")}(?![\\w$])`).test(body);
  const localName = (specifier) => specifier.trim().split(/\s+/).at(-1);
  const kept = head.replace(IMPORT_FROM, (whole, main, named, star, from) => {
    const names = (named ?? "").split(",").filter((specifier) => specifier.trim() && used(localName(specifier)));
    const clause = [
      ...(main && used(main) ? [main] : []),
      ...(star && used(localName(star)) ? [star] : []),
      ...(names.length > 0 ? [`{${names.join(",")}}`] : []),
    ];
    if (clause.length > 0) return `import ${clause.join(", ")} from ${from};`;
    return named?.trim() === "" ? `import ${from};` : "";
  });
  return kept + body;
}

/** What CommonJS modules have and sources of either kind use. */
const GLOBALS = {
  __dirname: "const __dirname = import.meta.dirname;",
  __filename: "const __filename = import.meta.filename;",
  require: 'import { createRequire as ocmtCreateRequire } from "node:module"; const require = ocmtCreateRequire(import.meta.url);',
};

/** withGlobals declares those that an ES module uses and does not declare. */
function withGlobals(source) {
  const missing = Object.keys(GLOBALS).filter((name) =>
    new RegExp(`(?<![\\w$.])${name}\\b`).test(source)
    && !new RegExp(`\\b(?:const|let|var|function|import|as)\\s+${name}\\b|[{,]\\s*${name}\\s*[,}]`).test(source));
  return missing.map((name) => GLOBALS[name]).join(" ") + source;
}
