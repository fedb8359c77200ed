// Drives an agent's turn as a host does: node turn.ts SOCKET TENANT PLUGIN
// The plugin has the tools "slow" (in steps), "echo" and "emit", as the conformance plugins have.
import { type CallOptions, connect, type Handler, ok } from "../client.ts";

const [socket, tenant, plugin] = process.argv.slice(2);
if (!socket || !tenant || !plugin) {
  console.error("usage: node turn.ts SOCKET TENANT PLUGIN");
  process.exit(2);
}
const ocmt = connect(socket);
const context = { agentId: "main", sessionKey: "agent:main:main", runId: crypto.randomUUID() };
const print = (what: string, value: unknown): void => console.log(what, JSON.stringify(value));

// A host answers what plugins call.
const emitted = Promise.withResolvers<void>();
const handle: Handler = ({ plugin, method, params }) => {
  if (method !== "host.emit") return;
  print(`${plugin} emits`, (params as { payload: unknown }).payload);
  emitted.resolve();
};
const host = await ocmt.attach(tenant, "turn", ["host.emit"], handle);

// The message goes through the hooks before the agent sees it.
const message = await emit("agent:message:before", { text: "hello" });
// The agent calls tools. This one tells how far it is.
await call("slow", { ms: 200 });
// A person stops this one: hanging up cancels it, in the plugin too.
await call("slow", { ms: 60_000 }, { signal: AbortSignal.timeout(300) });
// A hook may want to have this one approved.
await call("echo", { text: `ask-me ${message.text}` });
// And this one calls the host.
await call("emit", { event: "turn", payload: { done: true } });
await emitted.promise;
// The answer goes through the hooks before it is sent.
await emit("message_sending", { to: "someone", content: "bye" });
host.close();
await host.closed;

async function emit(event: string, payload: Record<string, string>): Promise<Record<string, string>> {
  const result = await ok(ocmt.api.POST("/v1/tenants/{tenant}/hooks/{event}/emit", {
    params: { path: { tenant: tenant!, event } }, body: { payload, context },
  }));
  print(`${event} ${result.outcome}`, result.payload);
  return result.payload as Record<string, string>;
}

async function call(tool: string, params: unknown, options: CallOptions = {}): Promise<void> {
  try {
    for await (const { event, data } of ocmt.stream(tenant!, plugin!, tool, { params, context, timeoutMs: 60_000 }, options)) {
      if (event === "update") print(`${tool} update`, data);
      if (event === "done") print(`${tool} done`, data.result);
      if (event !== "ask" || data.decision) continue;
      const { decision } = await ok(ocmt.api.POST("/v1/tenants/{tenant}/approvals/{approval}", {
        params: { path: { tenant: tenant!, approval: data.id } }, body: { decision: "allow-once" },
      }));
      print(`${tool} asks ${data.title}`, decision);
    }
  } catch (error) {
    if (!options.signal?.aborted) throw error;
    print(`${tool} cancelled`, null);
  }
}
