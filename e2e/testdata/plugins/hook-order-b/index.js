// Installed second, with the highest priority.
module.exports = {
  id: "hook-order-b",
  register(api) {
    const build = (result, priority) => api.on("before_prompt_build", () => result, { priority });
    build({ systemPrompt: "b 5", prependContext: "b 5" }, 5);
    build({ prependContext: "b 10", toolsAllow: ["read_file", "write", "exec"] }, 10);
  },
};
