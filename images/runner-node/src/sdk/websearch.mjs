// The SDK's access to the configuration of web-search providers.

import { asOptionalRecord, isRecord } from "./coerce.mjs";

const child = (target, key) => (isRecord(target[key]) ? target[key] : (target[key] = {}));

export const getTopLevelCredentialValue = (config) => config?.apiKey;
export const setTopLevelCredentialValue = (config, value) => void (config.apiKey = value);
export const getScopedCredentialValue = (config, key) => asOptionalRecord(config?.[key])?.apiKey;
export const setScopedCredentialValue = (config, key, value) => void (child(config, key).apiKey = value);

export const resolveProviderWebSearchPluginConfig = (config, plugin) =>
  asOptionalRecord(asOptionalRecord(config?.plugins?.entries?.[plugin]?.config)?.webSearch);

export function setProviderWebSearchPluginConfigValue(config, plugin, key, value) {
  const entry = child(child(child(config, "plugins"), "entries"), plugin);
  entry.enabled ??= true;
  child(child(entry, "config"), "webSearch")[key] = value;
}

/** The provider's own settings are laid under its key, hidden from enumeration. */
export function mergeScopedSearchConfig(search, key, plugin, options) {
  const { apiKey: _, ...merged } = search ?? {};
  if (!plugin) return Object.keys(merged).length > 0 ? merged : undefined;
  if (options?.mirrorApiKeyToTopLevel && plugin.apiKey !== undefined) merged.apiKey = plugin.apiKey;
  return Object.defineProperty(merged, key, { value: { ...plugin }, enumerable: false, configurable: true, writable: true });
}

const CREDENTIALS = {
  scoped: ({ scopeId }) => ({
    getCredentialValue: (config) => getScopedCredentialValue(config, scopeId),
    setCredentialValue: (config, value) => setScopedCredentialValue(config, scopeId, value),
  }),
  "top-level": () => ({ getCredentialValue: getTopLevelCredentialValue, setCredentialValue: setTopLevelCredentialValue }),
  none: () => ({ getCredentialValue: () => undefined, setCredentialValue: () => {} }),
};

export function createWebSearchProviderContractFields({ searchCredential, configuredCredential, credentialPath, inactiveSecretPaths }) {
  const make = CREDENTIALS[searchCredential.type];
  if (!make) throw new Error("unsupported web search credential type");
  const fields = { inactiveSecretPaths: inactiveSecretPaths ?? (credentialPath ? [credentialPath] : []), ...make(searchCredential) };
  if (!configuredCredential) return fields;
  const { pluginId, field = "apiKey" } = configuredCredential;
  return {
    ...fields,
    getConfiguredCredentialValue: (config) => resolveProviderWebSearchPluginConfig(config, pluginId)?.[field],
    setConfiguredCredentialValue: (config, value) => setProviderWebSearchPluginConfigValue(config, pluginId, field, value),
  };
}
