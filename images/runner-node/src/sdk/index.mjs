// The sub-paths of the OpenClaw plugin SDK that the shim serves. A sub-path
// holds the exports of the real one that are small; a plugin that needs more
// needs the full SDK, and is told so.

import * as channel from "./channel.mjs";
import * as coerce from "./coerce.mjs";
import * as entries from "./entries.mjs";
import * as misc from "./misc.mjs";
import * as params from "./params.mjs";
import * as schema from "./schema.mjs";
import * as websearch from "./websearch.mjs";

const pick = (from, names) => Object.fromEntries(names.split(" ").map((name) => [name, from[name]]));

const { asPositiveFiniteNumber, asNonNegativeFiniteNumber, ...strings } = coerce;
const { ToolInputError: _, readBooleanParam, readReactionParams, createActionGate, ...readers } = params;
const results = pick(entries, "jsonResult textResult");
const configSchemas = pick(entries, "buildJsonPluginConfigSchema buildPluginConfigSchema emptyPluginConfigSchema");
const errors = pick(misc, "coerceErrorMessage extractErrorCode formatErrorMessage readErrorName toErrorObject toStringifiedError");
const accounts = pick(channel, "DEFAULT_ACCOUNT_ID normalizeAccountId normalizeOptionalAccountId");
const channelCore = {
  ...pick(entries, "buildChannelConfigSchema defineChannelPluginEntry defineSetupPluginEntry"),
  ...pick(channel, "buildChannelOutboundSessionRoute createChannelPluginBase parseOptionalDelimitedEntries stripChannelTargetPrefix stripTargetKindPrefix"),
};
const core = {
  ...channelCore,
  ...configSchemas,
  ...schema,
  ...pick(entries, "definePluginEntry emptyChannelConfigSchema jsonResult"),
  ...pick(params, "createActionGate readNumberParam readReactionParams readStringArrayParam readStringParam"),
  ...pick(coerce, "normalizeAtHashSlug normalizeHyphenSlug parseStrictPositiveInteger"),
  ...pick(channel, "DEFAULT_ACCOUNT_ID buildAgentSessionKey formatPairingApproveHint normalizeAccountId resolveThreadSessionKeys"),
  ...pick(misc, "KeyedAsyncQueue createSubsystemLogger delegateCompactionToRuntime enqueueKeyedTask generateSecureToken generateSecureUuid isSecretRef"),
};

/** The shim's modules by sub-path; "" is the root that plugins before 2026.9 import. */
export const SDK = new Map(Object.entries({
  "": { ...core, ...results, ...accounts },
  core,
  "channel-core": channelCore,
  "plugin-entry": { definePluginEntry: entries.definePluginEntry, ...configSchemas },
  "tool-plugin": pick(entries, "defineToolPlugin getToolPluginMetadata toolPluginMetadataSymbol"),
  "tool-results": results,
  "param-readers": readers,
  "boolean-param": { readBooleanParam },
  "string-coerce-runtime": strings,
  "string-normalization-runtime": pick(coerce, "normalizeAtHashSlug normalizeHyphenSlug normalizeStringEntries normalizeStringEntriesLower"),
  "number-runtime": pick(coerce, "asDateTimestampMs asFiniteNumberInRange asNonNegativeFiniteNumber asPositiveFiniteNumber asSafeIntegerInRange parseFiniteNumber parseStrictFiniteNumber parseStrictInteger parseStrictNonNegativeInteger parseStrictPositiveInteger"),
  "account-id": accounts,
  "error-runtime": errors,
  "secret-input": { isSecretRef: misc.isSecretRef },
  "diagnostic-flags": { isDiagnosticFlagEnabled: misc.isDiagnosticFlagEnabled },
  "runtime-env": pick(misc, "createSubsystemLogger isTruthyEnvValue"),
  "runtime-store": { createPluginRuntimeStore: misc.createPluginRuntimeStore },
  "keyed-async-queue": pick(misc, "KeyedAsyncQueue enqueueKeyedTask"),
  "secure-random-runtime": pick(misc, "generateSecureToken generateSecureUuid"),
  "lazy-runtime": pick(misc, "createLazyRuntimeMethod createLazyRuntimeMethodBinder createLazyRuntimeModule createLazyRuntimeNamedExport createLazyRuntimeSurface"),
  "provider-web-search-config-contract": websearch,
}));
