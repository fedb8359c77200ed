// The document's form, as an ES module.
export const tools = [
  {
    name: "seed_echo",
    description: "Returns its parameters and what it was told about the call.",
    parameters: {
      type: "object",
      properties: { text: { type: "string", minLength: 1 }, times: { type: "integer", minimum: 1, maximum: 5 } },
      required: ["text"],
      additionalProperties: false,
    },
    execute: async (params, context) => ({
      text: params.text.repeat(params.times ?? 1),
      agentId: context.agentId,
      stateDir: context.stateDir,
      config: context.config,
      logger: typeof context.logger.info,
    }),
  },
];

export const hooks = [{ event: "agent:message:before", handler: async () => {} }];

export const services = [{ id: "seed-service", start: async () => {}, stop: async () => {} }];
