// Lists a tenant's tools, calls one and runs a hook: node agent.ts SOCKET TENANT PLUGIN
// The plugin has a tool "echo". What plugins say is printed as JSON: it may hold anything.
import { connect, ok } from "../client.ts";

const [socket, tenant, plugin] = process.argv.slice(2);
if (!socket || !tenant || !plugin) {
  console.error("usage: node agent.ts SOCKET TENANT PLUGIN");
  process.exit(2);
}
const { api } = connect(socket);

const { tools } = await ok(api.GET("/v1/tenants/{tenant}/tools", { params: { path: { tenant } } }));
for (const tool of tools) {
  console.log(`tool ${tool.plugin} ${tool.name} ${JSON.stringify(tool.description)}`);
}

const { result } = await ok(api.POST("/v1/tenants/{tenant}/plugins/{id}/tools/{tool}/call", {
  params: { path: { tenant, id: plugin, tool: "echo" }, header: { "Idempotency-Key": crypto.randomUUID() } },
  body: { params: { text: "hello" }, context: { agentId: "main", sessionKey: "agent:main:main" } },
}));
console.log(`result ${JSON.stringify(result)}`);

const hook = await ok(api.POST("/v1/tenants/{tenant}/hooks/{event}/emit", {
  params: { path: { tenant, event: "agent:message:before" } },
  body: { payload: { text: "hello" }, context: { agentId: "main" } },
}));
console.log(`hook ${hook.outcome} ${JSON.stringify(hook.payload)}`);
for (const change of hook.changes) {
  console.log(`changed by ${change.plugin}: ${change.path}`);
}
