// Watches how calls end, and asks for approvals that do not wait long.
const calls = [];
const resolutions = [];

module.exports = {
  id: "hook-watch",
  register(api) {
    api.on("after_tool_call", ({ plugin, toolName, params, result, error }) => {
      if (toolName !== "watched") calls.push({ plugin, toolName, params, result, error });
    });
    api.on("before_tool_call", ({ params }) => {
      if (params?.text !== "ask-briefly") return undefined;
      return {
        requireApproval: {
          title: "A short question", description: "Nobody will answer it.", timeoutMs: 300, timeoutReason: "nobody was there",
          allowedDecisions: ["allow-once", "deny"],
          onResolution: (decision) => void resolutions.push(decision),
        },
      };
    });
    api.registerTool({
      name: "watched", description: "What was seen.", parameters: { type: "object", properties: {} },
      execute: async () => ({ calls, resolutions }),
    });
  },
};
