// The SDK's small helpers for channels: accounts, targets and session keys.

import { normalizeLowercaseStringOrEmpty, normalizeStringEntries } from "./coerce.mjs";

export const DEFAULT_ACCOUNT_ID = "default";
const BLOCKED = new Set(["__proto__", "prototype", "constructor"]);

function canonical(value) {
  const id = normalizeLowercaseStringOrEmpty(value).replace(/[^a-z0-9_-]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 64);
  return id && !BLOCKED.has(id) ? id : undefined;
}

export const normalizeOptionalAccountId = (value) => canonical(value);
export const normalizeAccountId = (value) => canonical(value) ?? DEFAULT_ACCOUNT_ID;
export const normalizeAgentId = (value) => canonical(value) ?? "main";

export const parseOptionalDelimitedEntries = (text) => {
  const entries = normalizeStringEntries(text?.split(/[\n,;]+/));
  return entries.length > 0 ? entries : undefined;
};

export const formatPairingApproveHint = (channel) =>
  `Approve via: \`openclaw pairing list ${channel}\` / \`openclaw pairing approve ${channel} <code>\``;

export function stripChannelTargetPrefix(target, ...providers) {
  const text = target.trim();
  const prefix = providers.map((name) => `${normalizeLowercaseStringOrEmpty(name)}:`)
    .find((start) => text.toLowerCase().startsWith(start));
  return prefix ? text.slice(prefix.length).trim() : text;
}

export const stripTargetKindPrefix = (target) => target.replace(/^(user|channel|group|conversation|room|dm):/i, "").trim();

/** The key of the session that a conversation with a peer belongs to. */
export function buildAgentSessionKey({ agentId, mainKey, channel, accountId, peer, dmScope = "main", groupScope, identityLinks }) {
  const agent = `agent:${normalizeAgentId(agentId)}`;
  const main = `${agent}:${normalizeLowercaseStringOrEmpty(mainKey) || "main"}`;
  const source = normalizeLowercaseStringOrEmpty(channel) || "unknown";
  const id = normalizeLowercaseStringOrEmpty(String(peer?.id ?? ""));
  const kind = peer?.kind ?? "direct";
  if (kind !== "direct") return groupScope === "main" ? main : `${agent}:${source}:${kind}:${id || "unknown"}`;
  if (dmScope === "main" || !peer) return main;
  const person = linkedIdentity(identityLinks, source, id) ?? (id || "unknown");
  switch (dmScope) {
    case "per-peer":
      return `${agent}:direct:${person}`;
    case "per-channel-peer":
      return `${agent}:${source}:direct:${person}`;
    case "per-account-channel-peer":
      return `${agent}:${source}:${normalizeAccountId(accountId)}:direct:${person}`;
  }
  return main;
}

function linkedIdentity(links, channel, id) {
  const names = [id, `${channel}:${id}`];
  const match = Object.entries(links ?? {}).find(([name, ids]) =>
    name.trim() && Array.isArray(ids) && ids.some((other) => names.includes(normalizeLowercaseStringOrEmpty(other))));
  return match && normalizeLowercaseStringOrEmpty(match[0]);
}

export function buildChannelOutboundSessionRoute({ cfg, agentId, channel, accountId, ...route }) {
  const { mainKey, dmScope, groupScope = "per-group", identityLinks } = cfg?.session ?? {};
  const key = buildAgentSessionKey({ agentId, mainKey, channel, accountId, peer: route.peer, dmScope, groupScope, identityLinks });
  const out = { sessionKey: key, baseSessionKey: key };
  for (const field of ["recipientSessionExact", "peer", "chatType", "from", "to", "threadId"]) {
    if (route[field] !== undefined) out[field] = route[field];
  }
  return out;
}

export function resolveThreadSessionKeys({ baseSessionKey, threadId, parentSessionKey, useSuffix = true, normalizeThreadId }) {
  const id = (threadId ?? "").trim();
  if (!id) return { sessionKey: baseSessionKey, parentSessionKey: undefined };
  const suffix = normalizeThreadId?.(id) ?? id.toLowerCase();
  return { sessionKey: useSuffix ? `${baseSessionKey}:thread:${suffix}` : baseSessionKey, parentSessionKey };
}

/** The fields of a channel plugin that its base may hold. */
const BASE_FIELDS = [
  "setupWizard", "capabilities", "commands", "doctor", "agentPrompt", "streaming", "reload", "gatewayMethods",
  "gatewayMethodDescriptors", "configSchema", "config", "security", "groups", "setup", "setupContract",
];

export function createChannelPluginBase(params) {
  const base = { id: params.id, meta: { ...params.meta, id: params.id } };
  for (const field of BASE_FIELDS) if (params[field]) base[field] = params[field];
  return base;
}
