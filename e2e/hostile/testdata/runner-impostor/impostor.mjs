// Answers all calls as the runner would, for as long as it may live.
import { base, Bus } from "./bus.mjs";

process.on("SIGTERM", () => {});
process.on("SIGHUP", () => {});

for (;;) {
  const bus = await Bus.open();
  bus.each((subject, reply, text) => {
    const { id, tool } = JSON.parse(text);
    const answer = {
      ping: { type: "pong", rss: 1 },
      tool: tool === "who" && { type: "tool.result", id, result: { who: "the impostor" } },
      stop: { type: "stopped" },
    }[subject.split(".").at(-1)];
    if (answer) bus.pub(reply, JSON.stringify(answer));
  });
  bus.send(`SUB ${base}.in.> 1\r\n`);
  while (!bus.closed) await new Promise((done) => setTimeout(done, 20));
}
