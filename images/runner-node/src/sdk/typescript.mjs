// TypeScript entries. Node strips types itself, but not below node_modules,
// not syntax such as enums, and it does not find "./x.ts" for "./x.js" or
// "./x", which TypeScript sources write.

import { readFileSync } from "node:fs";
import { findPackageJSON, stripTypeScriptTypes } from "node:module";
import { fileURLToPath } from "node:url";

const SOURCE = /\.([cm]?)ts$/;
const RELATIVE = /^\.{1,2}\//;
const NOT_FOUND = new Set(["ERR_MODULE_NOT_FOUND", "MODULE_NOT_FOUND", "ERR_UNSUPPORTED_DIR_IMPORT"]);

/** Resolves as Node does, and then, from a TypeScript file, as TypeScript does. */
export function resolveTypeScript(specifier, context, next) {
  try {
    return next(specifier, context);
  } catch (error) {
    if (!NOT_FOUND.has(error.code) || !RELATIVE.test(specifier) || !SOURCE.test(context.parentURL ?? "")) throw error;
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

const candidates = (specifier) => [specifier.replace(/\.([cm]?)js$/, ".$1ts"), `${specifier}.ts`, `${specifier}/index.ts`];

/** Loads a TypeScript file as the JavaScript that it holds. */
export function loadTypeScript(url, context, next) {
  const kind = url.startsWith("file:") ? SOURCE.exec(url) : null;
  if (!kind) return next(url, context);
  const file = fileURLToPath(url);
  const source = stripTypeScriptTypes(readFileSync(file, "utf8"), { mode: "transform", sourceUrl: url });
  return { format: kind[1] === "c" ? "commonjs" : kind[1] === "m" ? "module" : formatOf(source, file), source, shortCircuit: true };
}

const MODULE_SYNTAX = /^\s*(import[\s{*"']|export[\s{*])/m;

function formatOf(source, file) {
  if (MODULE_SYNTAX.test(source)) return "module";
  const manifest = findPackageJSON(file);
  return manifest && JSON.parse(readFileSync(manifest, "utf8")).type === "module" ? "module" : "commonjs";
}
