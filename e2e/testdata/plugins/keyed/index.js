// A plugin that is given keys, and shows what it holds and what it gets.
const object = (properties) => ({ type: "object", properties });

async function request({ url, method = "GET", headers = {}, body }) {
  try {
    const response = await fetch(url, { method, headers, body });
    return { status: response.status, body: await response.text(), echo: response.headers.get("x-echo") };
  } catch (error) {
    return { error: error.cause?.code ?? error.code ?? error.name };
  }
}

export default {
  id: "keyed",
  register(api) {
    const tool = (name, execute) =>
      api.registerTool({ name, description: name, parameters: object({}), execute: async (id, params) => execute(params) });
    tool("request", request);
    tool("env", ({ name }) => ({ value: process.env[name] ?? null }));
    tool("config", () => ({ own: api.pluginConfig, whole: api.config }));
  },
};
