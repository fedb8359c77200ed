// Tools of both plugin forms: what they are, and how one is called.

import { describe, RunnerError } from "./errors.mjs";
import { isArray, jsonParse, jsonStringify, trim } from "./primordials.mjs";

/**
 * @typedef {object} ToolSource a tool, or a factory that makes tools
 * @property {"tool"} kind
 * @property {number} entry
 * @property {"export" | "register"} form
 * @property {object} [tool] the tool itself
 * @property {(context: object) => unknown} [create] the factory: one tool, an array, or null
 * @property {string[]} names the names that the factory was registered with
 * @property {boolean} optional
 */

/** The schema of a tool that has none: any object. */
const ANY_OBJECT = { type: "object" };

/**
 * toolsOf lists the tools of a source for the first time, and notes what is
 * wrong with them. A name that a factory promised and does not make now may
 * exist in another context, so it is listed with a schema that takes anything.
 * @param {ToolSource} source
 * @param {object} context
 * @param {(level: "info" | "warn" | "error", message: string) => void} diagnose
 */
export function toolsOf(source, context, diagnose) {
  let tools = [];
  try {
    tools = make(source, context).map((tool) => usable(tool, diagnose)).filter((tool) => tool !== null);
  } catch (error) {
    const what = source.create ? `the factory of tool ${source.names.join(", ") || "(unnamed)"}` : "a tool, when it was looked at,";
    diagnose("warn", `${what} threw: ${describe(error).message}`);
  }
  if (source.create && tools.length === 0 && source.names.length === 0) {
    diagnose("warn", "a tool factory made no tool and was registered without a name: its tools are not known");
  }
  for (const name of source.names) {
    if (!source.create || tools.some((tool) => tool.name === name)) continue;
    diagnose("info", `the factory of tool ${name} did not make it at load: it may not be available in every context`);
    tools.push({ name });
  }
  return tools;
}

function make(source, context) {
  const made = source.create ? source.create(context) : source.tool;
  return (Array.isArray(made) ? made : [made]).filter((tool) => tool !== null && tool !== undefined);
}

/** What is told of a tool, read once: the next time it may be something else. Null is one that cannot be called. */
function usable(tool, diagnose) {
  const { name: given, label, description, parameters, optional, execute } = tool;
  const name = typeof given === "string" ? given.trim() : "";
  if (name && typeof execute === "function") return { name, label, description, parameters, optional };
  diagnose("error", name ? `tool ${name} has no execute function; it is left out` : "a tool without a name was registered; it is left out");
  return null;
}

/**
 * describeTool is the spec of a tool's registration.
 * @param {object} tool
 * @param {ToolSource} source
 * @param {(level: "info" | "warn" | "error", message: string) => void} diagnose
 */
export function describeTool(tool, source, diagnose) {
  const { label, description, parameters } = tool;
  return {
    ...(typeof label === "string" && label ? { label } : {}),
    description: typeof description === "string" ? description : "",
    parameters: schemaOf(tool.name, parameters, diagnose),
    ...(source.optional || tool.optional === true ? { optional: true } : {}),
  };
}

function schemaOf(name, parameters, diagnose) {
  if (parameters === undefined || parameters === null) return ANY_OBJECT;
  try {
    const written = convert(parameters);
    if (!written) diagnose("warn", `the parameters of tool ${name} are not a JSON Schema but a library's own: any object is passed on`);
    const schema = jsonParse(jsonStringify(written ?? ANY_OBJECT));
    if (typeof schema === "object" && !Array.isArray(schema)) return schema;
  } catch (error) {
    throw new RunnerError("register", `the parameters of tool ${name} are not JSON: ${describe(error).message}`);
  }
  throw new RunnerError("register", `the parameters of tool ${name} are not a JSON Schema`);
}

/**
 * The schema objects of validation libraries (they have the mark of Standard
 * Schema, or zod's) are not JSON Schema. Some can be written as such; the
 * others take any object here and are checked by the plugin.
 */
function convert(parameters) {
  const standard = parameters["~standard"];
  if (standard === undefined && parameters._def === undefined) return parameters;
  const options = { target: "draft-2020-12", io: "input", unrepresentable: "any" };
  try {
    return parameters.toJSONSchema?.(options) ?? standard?.jsonSchema?.input(options) ?? null;
  } catch {
    return null;
  }
}

/** The tool of a name among what a factory made: one tool, or a list. */
function named(made, name) {
  const list = isArray(made) ? made : [made];
  for (let i = 0; i < list.length; i++) {
    if (typeof list[i]?.name === "string" && trim(list[i].name) === name) return list[i];
  }
  return undefined;
}

/**
 * @typedef {object} Invocation
 * @property {string} id of the call on the bus
 * @property {string} tool
 * @property {unknown} params
 * @property {{toolCallId?: string}} context
 */

/**
 * invoke calls a tool. A factory is asked anew, with the context of the call.
 * @param {ToolSource} source
 * @param {Invocation} call
 * @param {object} contexts
 * @param {object} contexts.plugin the document form's PluginContext
 * @param {object} contexts.factory the factories' context
 * @param {AbortSignal} contexts.signal
 * @param {(update: unknown) => void} contexts.onUpdate
 */
export function invoke(source, call, { plugin, factory, signal, onUpdate }) {
  const tool = named(source.create ? source.create(factory) : source.tool, call.tool);
  if (typeof tool?.execute !== "function") {
    throw new RunnerError("unknown_tool", `tool ${call.tool} is not available in this context`);
  }
  if (source.form === "export") return tool.execute(call.params, plugin);
  const prepared = typeof tool.prepareArguments === "function" ? tool.prepareArguments(call.params) : call.params;
  return tool.execute(call.context.toolCallId || call.id, prepared, signal, onUpdate);
}
