// What a plugin is told about its configuration and about a call.

import { homedir } from "node:os";
import { join } from "node:path";

/** Where a plugin works when the host names no place: OpenClaw's default, in its own home. */
export const defaultWorkspace = () => join(homedir(), ".openclaw", "workspace");

/**
 * ownConfig is the configuration that a plugin sees: what the host passed,
 * with the plugin's own entry in it, where the document says that it is.
 * @param {object} load
 */
export function ownConfig(load) {
  const config = load.config ?? {};
  const entry = config.plugins?.entries?.[load.plugin];
  if (load.pluginConfig === null || load.pluginConfig === undefined || entry?.config !== undefined) return config;
  const entries = { ...config.plugins?.entries, [load.plugin]: { ...entry, config: load.pluginConfig } };
  return { ...config, plugins: { ...config.plugins, entries } };
}

/**
 * pluginContext is the PluginContext of the document form.
 * @param {object} load
 * @param {object} config
 * @param {object} logger
 * @param {object} [call] the context of a call
 */
export function pluginContext(load, config, logger, call = {}) {
  return {
    config,
    agentId: call.agentId || load.agentId,
    stateDir: load.stateDir,
    workspaceDir: workspaceOf(load, call),
    logger,
  };
}

/**
 * factoryContext is what a tool factory is called with. This host has no
 * providers' credentials, no delivery and no knowledge of an owner, and says
 * so.
 * @param {object} load
 * @param {object} config
 * @param {object} [call] the context of a call
 * @param {AbortSignal} [signal] of the call
 */
export function factoryContext(load, config, call = {}, signal = undefined) {
  return {
    config,
    runtimeConfig: config,
    getRuntimeConfig: () => config,
    workspaceDir: workspaceOf(load, call),
    agentDir: undefined,
    agentId: call.agentId || load.agentId,
    sessionKey: call.sessionKey,
    sessionId: call.sessionId,
    requesterSenderId: call.senderId,
    senderIsOwner: false,
    toolBindings: {},
    hasAuthForProvider: () => false,
    resolveApiKeyForProvider: async () => undefined,
    assertInvocationCurrent: () => signal?.throwIfAborted(),
    sandboxed: false,
    oneShotCliRun: false,
  };
}

/** The workspace of a call: the caller's, the plugin's, or the default. */
export const workspaceOf = (load, call) => call.workspaceDir || load.workspaceDir || defaultWorkspace();
