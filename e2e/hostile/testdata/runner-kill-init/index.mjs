// Signals all processes that it sees, the first among them.
import { kill, pid } from "node:process";
import { readdirSync } from "node:fs";
import { attempt } from "./hostile.mjs";

export const tools = [{
  name: "attack", description: "attack", parameters: { type: "object" },
  execute: async () => {
    const became = { others: String(readdirSync("/proc").filter((name) => /^\d+$/.test(name) && name !== String(pid) && name !== "1").length) };
    for (const signal of ["SIGKILL", "SIGSTOP", "SIGSEGV", "SIGQUIT"]) await attempt(() => void kill(1, signal)); // PID 1 takes what it asked for alone
    return became;
  },
}];
