// The SDK's helpers that make a plugin's entry object.

import { notAvailable } from "../unavailable.mjs";

const lazily = (value) => {
  let made;
  return () => (made ??= { value: typeof value === "function" ? value() : value }).value;
};

/** A schema that takes an empty configuration only. */
const emptySchema = () => ({ type: "object", additionalProperties: false, properties: {} });

function checkEmpty(value) {
  if (value === undefined) return null;
  if (value === null || typeof value !== "object" || Array.isArray(value)) return "expected config object";
  return Object.keys(value).length > 0 ? "config must be empty" : null;
}

export function emptyPluginConfigSchema() {
  return {
    safeParse(value) {
      const message = checkEmpty(value);
      return message ? { success: false, error: { issues: [{ path: [], message }] } } : { success: true, data: value };
    },
    jsonSchema: emptySchema(),
  };
}

export function emptyChannelConfigSchema() {
  return {
    schema: emptySchema(),
    runtime: {
      safeParse(value) {
        const message = checkEmpty(value);
        return message ? { success: false, issues: [{ path: [], message }] } : { success: true, data: value };
      },
    },
  };
}

/** JSON Schema is checked by the host, with the schema as it is here. */
export const buildJsonPluginConfigSchema = (schema, options = {}) => ({
  safeParse: options.safeParse ?? notAvailable("buildJsonPluginConfigSchema().safeParse: the full openclaw SDK is needed"),
  ...(options.uiHints ? { uiHints: options.uiHints } : {}),
  jsonSchema: schema,
});

const zodJSON = (schema) => schema.toJSONSchema?.({ target: "draft-07", io: "input", unrepresentable: "any" })
  ?? { type: "object", additionalProperties: true };

export const buildPluginConfigSchema = (schema, options = {}) => ({
  safeParse: options.safeParse ?? ((value) => schema.safeParse(value)),
  ...(options.uiHints ? { uiHints: options.uiHints } : {}),
  jsonSchema: zodJSON(schema),
});

export const buildChannelConfigSchema = (schema, options = {}) => ({
  schema: zodJSON(schema),
  ...(options.uiHints ? { uiHints: options.uiHints } : {}),
  runtime: {
    safeParse(value) {
      const result = schema.safeParse(value);
      return result.success ? result : { success: false, issues: result.error.issues };
    },
  },
});

export function definePluginEntry(definition) {
  const { id, name, description, register, configSchema = emptyPluginConfigSchema } = definition;
  const optional = {};
  for (const key of ["kind", "reload", "nodeHostCommands", "securityAuditCollectors"]) {
    if (definition[key]) optional[key] = definition[key];
  }
  return withSchema({ id, name, description, ...optional, register }, configSchema);
}

function withSchema(entry, configSchema) {
  return Object.defineProperty(entry, "configSchema", { enumerable: true, configurable: true, get: lazily(configSchema) });
}

/** Which parts of a channel plugin register in which mode. */
const CHANNEL_STEPS = {
  "cli-metadata": ["registerCliMetadata"],
  "tool-discovery": ["registerFull", "registerCapabilities"],
  discovery: ["channel", "registerCliMetadata", "registerCapabilities"],
  full: ["channel", "registerCliMetadata", "registerFull", "registerCapabilities"],
};

export function defineChannelPluginEntry(definition) {
  const { id, name, description, plugin, setRuntime, configSchema = emptyChannelConfigSchema } = definition;
  const register = (api) => {
    for (const step of CHANNEL_STEPS[api.registrationMode] ?? ["channel"]) {
      if (step !== "channel") {
        definition[step]?.(api);
        continue;
      }
      api.registerChannel({ plugin });
      setRuntime?.(api.runtime);
    }
  };
  const entry = { id, name, description, register, channelPlugin: plugin };
  if (setRuntime) entry.setChannelRuntime = setRuntime;
  return withSchema(entry, configSchema);
}

export const defineSetupPluginEntry = (plugin) => ({ plugin });

export const toolPluginMetadataSymbol = Symbol.for("openclaw.plugin-sdk.tool-plugin.metadata");

export function getToolPluginMetadata(entry) {
  const metadata = entry !== null && typeof entry === "object" ? entry[toolPluginMetadataSymbol] : undefined;
  return metadata !== null && typeof metadata === "object" ? metadata : undefined;
}

export function defineToolPlugin(definition) {
  const { id, name, description, activation = { onStartup: true } } = definition;
  const configSchema = definition.configSchema ?? emptySchema();
  const tools = [...definition.tools((tool) => ({ ...tool, label: tool.label ?? tool.name, optional: tool.optional === true }))];
  const entry = definePluginEntry({
    id, name, description,
    configSchema: buildJsonPluginConfigSchema(configSchema),
    register: (api) => tools.forEach((tool) => registerTool(api, tool)),
  });
  const described = tools.map(({ name, label, description, parameters, outputSchema, optional }) => ({
    name, label, description, parameters, ...(outputSchema ? { outputSchema } : {}), ...(optional ? { optional } : {}),
  }));
  const metadata = { id, name, description, activation, configSchema, tools: described };
  return Object.defineProperty(entry, toolPluginMetadataSymbol, { value: metadata });
}

function registerTool(api, tool) {
  const config = api.pluginConfig ?? {};
  const { name, label, description, parameters, outputSchema, optional } = tool;
  if (tool.factory) {
    return api.registerTool((toolContext) => tool.factory({ api, config, toolContext }), { name, ...(optional ? { optional } : {}) });
  }
  if (!tool.execute) throw new Error(`tool plugin tool ${name} must define execute or factory`);
  api.registerTool({
    name, label, description, parameters, ...(outputSchema ? { outputSchema } : {}),
    async execute(toolCallId, params, signal, onUpdate) {
      const result = await tool.execute(params, config, { api, signal, toolCallId, onUpdate });
      return typeof result === "string" ? textResult(result, result) : jsonResult(result);
    },
  }, optional ? { optional } : undefined);
}

export const textResult = (text, details) => ({ content: [{ type: "text", text }], details });
export const jsonResult = (payload) => textResult(JSON.stringify(payload, null, 2), payload);
