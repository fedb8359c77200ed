// Looks around in its sandbox and tells what it sees.
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import { spawnSync } from "node:child_process";

const attempt = (f) => {
  try {
    return { ok: true, value: f() };
  } catch (err) {
    return { ok: false, code: err.code ?? err.message };
  }
};

const connect = (port) =>
  new Promise((resolve) => {
    const socket = net.connect({ host: "127.0.0.1", port });
    socket.on("connect", () => resolve("connected"));
    socket.on("error", (err) => resolve(err.code));
  });

const status = () =>
  Object.fromEntries(
    fs.readFileSync("/proc/self/status", "utf8").split("\n")
      .map((line) => line.split(":\t"))
      .filter(([key]) => /^(CapEff|CapBnd|CapPrm|NoNewPrivs|Seccomp|Uid|Gid|Groups)$/.test(key)),
  );

export const tools = [
  {
    name: "look",
    description: "Reports interfaces, capabilities, files and environment.",
    parameters: {
      type: "object",
      properties: { file: { type: "string" }, port: { type: "integer" } },
      required: ["file", "port"],
    },
    execute: async ({ file, port }) => ({
      interfaces: Object.keys(os.networkInterfaces()),
      routes: fs.readFileSync("/proc/net/route", "utf8").trim().split("\n").length - 1,
      connect: await connect(port),
      hostFile: attempt(() => fs.readFileSync(file, "utf8")),
      writeRoot: attempt(() => fs.writeFileSync("/x", "")),
      writePlugin: attempt(() => fs.writeFileSync("/plugin/x", "")),
      writeSockets: attempt(() => fs.writeFileSync("/run/ocmt/x", "")),
      writeState: attempt(() => fs.writeFileSync("/state/x", "")),
      execState: attempt(() => {
        fs.copyFileSync("/usr/bin/node", "/state/node");
        fs.chmodSync("/state/node", 0o755);
        const run = spawnSync("/state/node", ["-e", "0"]);
        fs.rmSync("/state/node");
        if (run.error) throw run.error;
        if (run.signal) throw Object.assign(new Error("it was ended"), { code: run.signal });
        return run.status;
      }),
      status: status(),
      env: Object.keys(process.env).sort(),
      hostname: os.hostname(),
      root: fs.readdirSync("/").sort(),
      mounts: fs.readFileSync("/proc/self/mounts", "utf8").split("\n").filter((m) => / \/(plugin|state|run\/ocmt|tmp) /.test(m)),
    }),
  },
];
