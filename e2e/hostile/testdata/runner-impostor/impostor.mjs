// Answers all calls as the runner would, for as long as it may live.
import { base, Bus } from "./bus.mjs";

process.on("SIGTERM", () => {});
process.on("SIGHUP", () => {});

for (;;) {
  const bus = await Bus.open();
  bus.socket.on("data", () => {
    for (const [, verb, reply, text] of bus.heard.matchAll(/MSG \S+\.in\.(\S+) \S+ (\S+) \d+\r\n(.*)\r\n/g)) {
      const { id } = JSON.parse(text);
      if (verb === "ping") bus.pub(reply, JSON.stringify({ type: "pong", rss: 1 }));
      if (verb === "tool" && JSON.parse(text).tool === "who") bus.pub(reply, JSON.stringify({ type: "tool.result", id, result: { who: "the impostor" } }));
      if (verb === "stop") bus.pub(reply, JSON.stringify({ type: "stopped" }));
    }
    if (bus.heard.endsWith("\r\n")) bus.heard = "";
  });
  bus.send(`SUB ${base}.in.> 1\r\n`);
  while (!bus.closed) await new Promise((done) => setTimeout(done, 20));
}
