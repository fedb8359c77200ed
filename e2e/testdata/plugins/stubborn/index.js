// Does not end easily: it starts processes that outlive their parent and ignore
// SIGTERM, and can be told to hear nothing any more itself, once it is being
// stopped. What happens to it on the way is noted in its state.
const { spawn } = require("node:child_process");
const { once } = require("node:events");
const { appendFileSync } = require("node:fs");
const { join } = require("node:path");
const { setTimeout: sleep } = require("node:timers/promises");

// A process that stays, and one that starts it and ends: its child is then
// nobody's but the first process's.
const stays = `process.on("SIGTERM", () => {}); process.on("SIGHUP", () => {}); setInterval(() => {}, 1000);`;
const leaves = `
const child = require("node:child_process").spawn(process.execPath, ["-e", ${JSON.stringify(stays)}, "orphan"], { detached: true, stdio: "ignore" });
child.on("spawn", () => { process.stdout.write(String(child.pid)); process.exit(0); });`;

module.exports = {
  id: "stubborn",
  register(api) {
    let deaf = false;
    const note = (line) => appendFileSync(join(api.runtime.state.resolveStateDir(), "notes"), `${line}\n`);
    for (const id of ["one", "two"]) {
      api.registerService({
        id,
        start: () => note(`start ${id}`),
        stop: () => {
          note(`stop ${id}`);
          if (deaf && id === "one") Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0); // for ever
        },
      });
    }
    const tool = (name, description, execute) =>
      api.registerTool({ name, description, parameters: { type: "object", properties: { ms: { type: "number" } } }, execute });
    tool("orphan", "Starts a process that outlives its parent; answers with its process id.", async () => {
      const middle = spawn(process.execPath, ["-e", leaves], { detached: true, stdio: ["ignore", "pipe", "ignore"] });
      let pid = "";
      middle.stdout.on("data", (data) => (pid += data));
      await once(middle, "close");
      return { pid: Number(pid) };
    });
    tool("slow", "Answers after some milliseconds.", async (_, { ms }) => {
      note("slow begins");
      await sleep(ms);
      note("slow ends");
      return { waited: ms };
    });
    tool("deafen", "Has it end by SIGKILL alone.", async () => {
      deaf = true;
      process.on("SIGTERM", () => {}); // which would end it otherwise
      return {};
    });
  },
};
