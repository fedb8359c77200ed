// Installed first: of two handlers of one priority its own goes first.
module.exports = {
  id: "hook-order-a",
  register(api) {
    const build = (result, priority) => api.on("before_prompt_build", () => result, { priority });
    build({ systemPrompt: "a 5", prependContext: "a 5", toolsAllow: ["read*", "write"] }, 5);
    build({ prependContext: "a -1", appendSystemContext: "a -1" }, -1);
  },
};
