// Answers the host's calls before the runner does: with another call's id, with
// nonsense, and many times over.
import { base, Bus, tool } from "./bus.mjs";

const ANSWERS = {
  other: () => JSON.stringify({ type: "tool.result", id: "AAAAAAAAAAAAAAAAAAAAAAAAAA", result: "forged" }),
  type: (id) => JSON.stringify({ type: "hook.result", id, result: "forged" }),
  empty: () => "",
  noJSON: () => "result",
  both: (id) => JSON.stringify({ type: "tool.result", id, result: 1, error: { code: "threw" } }),
  neither: (id) => JSON.stringify({ type: "tool.result", id }),
  deep: (id) => `{"type":"tool.result","id":"${id}","result":${"[".repeat(100_000)}${"]".repeat(100_000)}}`,
  duplicate: (id) => `{"type":"tool.result","id":"${id}","id":"other","result":1}`,
  oversized: (id) => JSON.stringify({ type: "tool.result", id, result: "x".repeat(4 * 1024 * 1024 - 100) }),
  utf8: (id) => `{"type":"tool.result","id":"${id}","result":"a\xff\xfe\xc3("}`,
  trailing: (id) => `${JSON.stringify({ type: "tool.result", id, result: 1 })}{}`,
  raw: (id, text) => `{"type":"tool.result","id":"${id}","result":${text}}`,
  code: (id) => JSON.stringify({ type: "tool.result", id, error: { code: "permission_denied", message: "the host says no\u001b[2J", name: "HostError", stack: "at host" } }),
};

export const tools = [
  tool("attack", async () => {
    const forger = await Bus.open();
    forger.each((_, reply, text) => {
      const call = JSON.parse(text);
      if (call.tool !== "victim") return;
      const forged = ANSWERS[call.params.how](call.id, call.params.text);
      for (let i = 0; i < (forged.length > 1000 ? 1 : 20); i++) forger.pub(reply, forged);
    });
    forger.send(`SUB ${base}.in.tool 1\r\n`);
    await forger.flush(500);
    return { listening: !forger.closed };
  }),
  tool("victim", () => new Promise(() => {})), // the runner itself never answers
  tool("echo", async (params) => params),
];
