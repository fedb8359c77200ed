// api.runtime: the part of OpenClaw's host services that exists here. The
// namespaces are OpenClaw 2026.9.6's; whatever is not implemented throws when
// it is called.

import { createLogger } from "./logger.mjs";
import { openKeyedStore, openSyncKeyedStore } from "./store.mjs";
import { notAvailable, unavailable } from "./unavailable.mjs";

/** The version of OpenClaw whose plugin API this host speaks. */
export const OPENCLAW_VERSION = "2026.9.6";

const NAMESPACES = [
  "agent", "channel", "decisions", "events", "hooks", "imageGeneration", "llm", "media", "mediaUnderstanding",
  "modelConfig", "musicGeneration", "nodes", "runContext", "sandbox", "session", "subagent", "system", "tasks",
  "tools", "tts", "videoGeneration", "webSearch", "worktrees",
];

/**
 * createRuntime makes api.runtime.
 * @param {object} options
 * @param {object} options.config what config.current() returns
 * @param {string} options.stateDir
 * @param {string} options.plugin the plugin's id
 * @param {import("./lifecycle.mjs").Lifecycle} options.lifecycle
 */
export function createRuntime({ config, stateDir, plugin, lifecycle }) {
  const runtime = {
    version: OPENCLAW_VERSION,
    config: unavailable("runtime.config", { current: () => config, loadConfig: () => config }),
    gateway: unavailable("runtime.gateway", { isAvailable: async () => false }),
    modelAuth: unavailable("runtime.modelAuth", {
      resolveProviderIdForAuth: (provider) => String(provider ?? "").trim().toLowerCase(),
    }),
    logging: {
      shouldLogVerbose: () => false,
      getChildLogger: (bindings) => createLogger(plugin, undefined, bindings),
    },
    state: unavailable("runtime.state", {
      resolveStateDir: () => stateDir,
      openKeyedStore: (options) => openKeyedStore(stateDir, options),
      openSyncKeyedStore: (options) => openSyncKeyedStore(stateDir, options),
    }),
    lifecycle: {
      signal: lifecycle.signal,
      onDispose: (callback) => lifecycle.onDispose(callback),
      registerRuntimeLifecycle: notAvailable("runtime.lifecycle.registerRuntimeLifecycle"),
    },
  };
  for (const name of NAMESPACES) runtime[name] = unavailable(`runtime.${name}`);
  return runtime;
}
