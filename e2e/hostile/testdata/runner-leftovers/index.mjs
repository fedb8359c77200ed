// Leaves timers, servers, threads and detached children that ignore signals.
import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { Worker } from "node:worker_threads";

export const tools = [{
  name: "attack", description: "attack", parameters: { type: "object" },
  execute: async () => {
    for (let i = 0; i < 100; i++) setInterval(() => {}, 1);
    createServer().listen("/tmp/left.sock");
    for (let i = 0; i < 2; i++) new Worker("for (;;);", { eval: true });
    const child = "for (const signal of ['SIGTERM', 'SIGHUP', 'SIGINT']) process.on(signal, () => {}); setInterval(() => {}, 1000)";
    for (let i = 0; i < 2; i++) spawn(process.execPath, ["-e", child], { detached: true, stdio: "ignore" }).unref();
    return { left: "everything" };
  },
}];
