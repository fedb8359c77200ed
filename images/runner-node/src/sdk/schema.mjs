// The SDK's schema helpers. Plugins put what these return into schemas of
// their own TypeBox, of either generation, so the marks of both are set.

const mark = (schema, key, value) => Object.defineProperty(schema, key, { value, configurable: true, writable: true });
const KIND = Symbol.for("TypeBox.Kind");
const OPTIONAL = Symbol.for("TypeBox.Optional");

const unsafe = (schema) => mark(mark(schema, "~unsafe", null), KIND, "Unsafe");

export function stringEnum(values, options = {}) {
  const all = Array.isArray(values) ? values : Object.values(values ?? {}).filter((value) => typeof value === "string");
  return unsafe({ type: "string", ...(all.length > 0 ? { enum: [...all] } : {}), ...options });
}

export const optionalStringEnum = (values, options) =>
  mark(mark(stringEnum(values, options), "~optional", true), OPTIONAL, "Optional");

const TARGET = "Recipient or channel: an id, a number or a name, in the form that the channel uses";

export const channelTargetSchema = ({ description = TARGET } = {}) => unsafe({ type: "string", description });
export const channelTargetsSchema = (options) => unsafe({ type: "array", items: channelTargetSchema(options) });
