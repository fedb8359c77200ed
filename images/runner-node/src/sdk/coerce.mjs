// The SDK's helpers for values of unknown type: strings, lists, records,
// numbers and booleans. What is not as asked becomes undefined (or what the
// name says), never an error.

const trimmed = (value) => (typeof value === "string" ? value.trim() : "");

export const readStringValue = (value) => (typeof value === "string" ? value : undefined);
export const normalizeNullableString = (value) => trimmed(value) || null;
export const normalizeOptionalString = (value) => trimmed(value) || undefined;
export const normalizeBoundedOptionalString = (value, max) =>
  Number.isInteger(max) && max >= 0 && trimmed(value).length <= max ? normalizeOptionalString(value) : undefined;
export const readNonBlankString = (value) => (trimmed(value) ? value : undefined);
export const readNonEmptyStringPreservingWhitespace = (value) => readStringValue(value) || undefined;
export const hasNonEmptyString = (value) => trimmed(value) !== "";
export const normalizeStringifiedOptionalString = (value) =>
  ["string", "number", "boolean", "bigint"].includes(typeof value) ? normalizeOptionalString(String(value)) : undefined;
export const normalizeOptionalLowercaseString = (value) => normalizeOptionalString(value)?.toLowerCase();
export const normalizeLowercaseStringOrEmpty = (value) => trimmed(value).toLowerCase();
export const lowercasePreservingWhitespace = (value) => value.toLowerCase();
export const localeLowercasePreservingWhitespace = (value) => value.toLocaleLowerCase();

export function normalizeOptionalStringifiedId(value) {
  if (typeof value !== "number") return normalizeOptionalString(value);
  return Number.isFinite(value) ? String(Math.trunc(value)) : undefined;
}

const FAST_MODES = new Map([
  ...["off", "false", "no", "0", "disable", "disabled", "normal"].map((word) => [word, false]),
  ...["on", "true", "yes", "1", "enable", "enabled", "fast"].map((word) => [word, true]),
  ...["auto", "automatic"].map((word) => [word, "auto"]),
]);
export const normalizeFastMode = (value) =>
  typeof value === "boolean" ? value : FAST_MODES.get(normalizeLowercaseStringOrEmpty(value));

// Lists.
const list = (value) => (Array.isArray(value) ? value : []);
export const filterStringEntries = (value) => list(value).filter((item) => typeof item === "string");
export const normalizeStringEntries = (values) => (values ?? []).map((item) => String(item).trim()).filter(Boolean);
export const normalizeStringEntriesLower = (values) => normalizeStringEntries(values).map((item) => item.toLowerCase());
export const normalizeStringifiedEntries = (values) => (values ?? []).map(normalizeStringifiedOptionalString).filter(Boolean);
export const normalizeTrimmedStringList = (value) => list(value).map(trimmed).filter(Boolean);
export const normalizeSingleOrTrimmedStringList = (value) => normalizeTrimmedStringList(Array.isArray(value) ? value : [value]);
export const normalizeOptionalTrimmedStringList = (value) => {
  const out = normalizeTrimmedStringList(value);
  return out.length > 0 ? out : undefined;
};
export const uniqueValues = (values) => [...new Set(values)];
export const uniqueStrings = uniqueValues;
export const sortUniqueStrings = (values) => uniqueValues(values).sort();
export const normalizeUniqueStringEntries = (values) => uniqueValues(normalizeStringEntries(values ? [...values] : []));
export const normalizeUniqueTrimmedStringList = (value) => uniqueValues(normalizeTrimmedStringList(value));
export const normalizeSortedUniqueTrimmedStringList = (value) => sortUniqueStrings(normalizeTrimmedStringList(value));

export function summarizeStringEntries({ entries = [], limit = 6, emptyText = "" }) {
  if (!entries || entries.length === 0) return emptyText;
  const shown = entries.slice(0, Number.isFinite(limit) ? Math.max(1, Math.floor(limit)) : 6);
  const hidden = entries.length - shown.length;
  return shown.join(", ") + (hidden > 0 ? ` (+${hidden})` : "");
}

// Slugs.
const slug = (value, alien) => normalizeLowercaseStringOrEmpty(value).normalize("NFC").replace(alien, "-").replace(/-+/g, "-");
export const normalizeHyphenSlug = (value) =>
  slug(value, /[^\p{L}\p{M}\p{N}#@._+-]/gu).replace(/^[-.]+|[-.]+$/g, "");
export const normalizeAtHashSlug = (value) =>
  slug(normalizeLowercaseStringOrEmpty(value).replace(/^[@#]+/, ""), /[^\p{L}\p{M}\p{N}-]/gu).replace(/^-+|-+$/g, "");

// Records.
export const isRecord = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const isObject = (value) => value !== null && typeof value === "object";
export const asRecord = (value) => (isObject(value) ? value : {});
export const asOptionalRecord = (value) => (isRecord(value) ? value : undefined);
export const asNullableRecord = (value) => (isRecord(value) ? value : null);
export const asNonArrayRecord = (value) => (isRecord(value) ? value : {});
export const asOptionalObjectRecord = (value) => (isObject(value) ? value : undefined);
export const asNullableObjectRecord = (value) => (isObject(value) ? value : null);
export const readStringField = (record, key) => readStringValue(record?.[key]);
export function filterStringRecord(value) {
  const entries = Object.entries(asNonArrayRecord(value)).filter(([, item]) => typeof item === "string");
  return entries.length > 0 ? Object.fromEntries(entries) : undefined;
}

// Numbers.
const MAX_DATE = 8.64e15;
export const asFiniteNumber = (value) => (Number.isFinite(value) ? value : undefined);
export const asPositiveFiniteNumber = (value) => (Number.isFinite(value) && value > 0 ? value : undefined);
export const asNonNegativeFiniteNumber = (value) => (Number.isFinite(value) && value >= 0 ? value : undefined);
export function asFiniteNumberInRange(value, { min = -Infinity, max = Infinity, minExclusive, maxExclusive } = {}) {
  if (!Number.isFinite(value)) return undefined;
  const above = minExclusive ? value > min : value >= min;
  const below = maxExclusive ? value < max : value <= max;
  return above && below ? value : undefined;
}
export const asSafeIntegerInRange = (value, { min = -Infinity, max = Infinity } = {}) =>
  Number.isSafeInteger(value) && value >= min && value <= max ? value : undefined;
export const asPositiveSafeInteger = (value) => asSafeIntegerInRange(value, { min: 1 });
export const asDateTimestampMs = (value) => asFiniteNumberInRange(value, { min: -MAX_DATE, max: MAX_DATE });

const DECIMAL = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
export function parseStrictFiniteNumber(value) {
  if (typeof value === "number") return asFiniteNumber(value);
  return DECIMAL.test(trimmed(value)) ? asFiniteNumber(Number(trimmed(value))) : undefined;
}
export const parseFiniteNumber = parseStrictFiniteNumber;
export function parseStrictInteger(value) {
  const number = typeof value === "number" || /^[+-]?\d+$/.test(trimmed(value)) ? Number(value) : NaN;
  return Number.isSafeInteger(number) ? number : undefined;
}
export const parseStrictPositiveInteger = (value) => asSafeIntegerInRange(parseStrictInteger(value), { min: 1 });
export const parseStrictNonNegativeInteger = (value) => asSafeIntegerInRange(parseStrictInteger(value), { min: 0 });

// Booleans and text.
export const asBoolean = (value) => (typeof value === "boolean" ? value : undefined);
export function parseBooleanValue(value, { truthy = ["true", "1", "yes", "on"], falsy = ["false", "0", "no", "off"] } = {}) {
  if (typeof value !== "string") return asBoolean(value);
  const word = normalizeLowercaseStringOrEmpty(value);
  return truthy.includes(word) ? true : falsy.includes(word) ? false : undefined;
}
export function truncateUtf16Safe(text, max) {
  const end = Math.max(0, Math.floor(max));
  if (text.length <= end) return text;
  const code = text.charCodeAt(end - 1);
  return text.slice(0, code >= 0xd800 && code <= 0xdbff ? end - 1 : end);
}
