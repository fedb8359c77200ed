// The registrars of the plugin API of OpenClaw 2026.9.6, and how a
// registration is named and described.

/** Every registrar that is recorded as it comes, and not called; its kind is its name without "register". */
export const REGISTRARS = [
  "registerGatewayMethod", "registerHttpRoute", "registerCommand", "registerCli",
  "registerNodeCliFeature", "registerChannel", "registerProvider", "registerModelCatalogProvider",
  "registerCliBackend", "registerEmbeddingProvider", "registerSpeechProvider",
  "registerRealtimeTranscriptionProvider", "registerRealtimeVoiceProvider",
  "registerMediaUnderstandingProvider", "registerTranscriptSourceProvider",
  "registerImageGenerationProvider", "registerVideoGenerationProvider", "registerMusicGenerationProvider",
  "registerWebFetchProvider", "registerWebSearchProvider", "registerWorkerProvider",
  "registerDecisionProvider", "registerCompactionProvider", "registerContextEngine",
  "registerMemoryCapability", "registerMemoryPromptSupplement", "registerMemoryPromptPreparation",
  "registerMemoryCorpusSupplement", "registerAgentHarness", "registerAgentToolResultMiddleware",
  "registerCodexAppServerExtensionFactory", "registerTrustedToolPolicy", "registerToolMetadata",
  "registerTextTransforms", "registerInteractiveHandler", "onConversationBindingResolved",
  "registerSecurityAuditCollector", "registerReload", "registerNodeHostCommand",
  "registerNodeInvokePolicy", "registerGatewayDiscoveryService", "registerHostedMediaResolver",
  "registerWidgetPresenter", "registerMcpServerConnectionResolver", "registerGatewayAccessPolicy",
  "registerBoardWidgetContentKind", "registerSessionCatalog", "registerConfigMigration",
  "registerMigrationProvider", "registerAutoEnableProbe", "registerDetachedTaskRuntime",
  "registerSessionExtension", "registerControlUiDescriptor", "registerRuntimeLifecycle",
  "registerAgentEventSubscription", "registerSessionSchedulerJob", "registerSessionAction",
];

/** Functions of the API that need the host; they may be called after register, too. */
export const HOST_FUNCTIONS = [
  "enqueueNextTurnInjection", "emitAgentEvent", "setRunContext", "getRunContext", "clearRunContext",
  "sendSessionAttachment", "scheduleSessionTurn", "unscheduleSessionTurnsByTag",
];

/** The grouped forms of some of them: path to the functions found there. */
export const FACADES = {
  "session.state": ["registerSessionExtension"],
  "session.workflow": [
    "enqueueNextTurnInjection", "registerSessionSchedulerJob", "sendSessionAttachment",
    "scheduleSessionTurn", "unscheduleSessionTurnsByTag",
  ],
  "session.controls": ["registerSessionAction", "registerControlUiDescriptor"],
  "agent.events": ["registerAgentEventSubscription", "emitAgentEvent"],
  runContext: ["setRunContext", "getRunContext", "clearRunContext"],
  lifecycle: ["registerRuntimeLifecycle"],
};

/**
 * kindOf is the kind that a registrar's registrations have.
 * @param {string} registrar
 */
export function kindOf(registrar) {
  const name = registrar.startsWith("register") ? registrar.slice("register".length) : registrar;
  return name.slice(0, 1).toLowerCase() + name.slice(1);
}

const NAME_FIELDS = [
  "id", "name", "path", "event", "method", "command", "toolName", "namespace", "serverName", "provider",
  "kind", "channel",
];

/**
 * nameOf finds the name of a registration in its arguments: a leading string,
 * or the first of the usual fields, or the commands that it is for.
 * @param {unknown[]} args
 */
export function nameOf(args) {
  if (typeof args[0] === "string") return args[0].trim();
  for (const arg of args) {
    if (arg === null || typeof arg !== "object") continue;
    for (const source of [arg, arg.plugin]) {
      const field = NAME_FIELDS.find((key) => typeof source?.[key] === "string" && source[key].trim());
      if (field) return source[field].trim();
    }
    const list = [arg.commands, arg.descriptors].find(Array.isArray);
    const names = list?.map((item) => item?.name ?? item).filter((item) => typeof item === "string");
    if (names?.length) return names.join(",");
  }
  return "";
}
