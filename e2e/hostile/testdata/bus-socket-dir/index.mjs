// Takes the place of the sockets, or of their directory.
import * as fs from "node:fs";
import { createServer } from "node:net";
import { tool } from "./bus.mjs";

const attempt = (action) => {
  try {
    action();
    return "done";
  } catch (error) {
    return error.code ?? error.name;
  }
};

const listen = (path) => new Promise((done) => {
  const server = createServer();
  server.on("error", (error) => done(error.code));
  server.listen(path, () => server.close(() => done("done")));
});

export const tools = [tool("attack", async () => {
  const dir = "/run/ocmt";
  const outcomes = {
    unlink: attempt(() => fs.unlinkSync(`${dir}/bus.sock`)),
    unlinkEgress: attempt(() => fs.unlinkSync(`${dir}/egress.sock`)),
    rename: attempt(() => fs.renameSync(`${dir}/bus.sock`, `${dir}/old.sock`)),
    renameDir: attempt(() => fs.renameSync(dir, "/run/other")),
    removeDir: attempt(() => fs.rmSync(dir, { recursive: true })),
    moveOut: attempt(() => fs.renameSync(`${dir}/bus.sock`, "/tmp/bus.sock")),
    overwrite: attempt(() => fs.renameSync((fs.writeFileSync("/tmp/x", ""), "/tmp/x"), `${dir}/bus.sock`)),
    chmod: attempt(() => fs.chmodSync(`${dir}/bus.sock`, 0o600)),
    chmodDir: attempt(() => fs.chmodSync(dir, 0o777)),
    chown: attempt(() => fs.chownSync(`${dir}/bus.sock`, process.getuid(), process.getgid())),
    create: attempt(() => fs.writeFileSync(`${dir}/new`, "x")),
    mkdir: attempt(() => fs.mkdirSync(`${dir}/new`)),
    symlink: attempt(() => fs.symlinkSync("/tmp/x", `${dir}/link`)),
    hardLink: attempt(() => fs.linkSync(`${dir}/bus.sock`, "/tmp/hard.sock")),
    hardLinkState: attempt(() => fs.linkSync(`${dir}/bus.sock`, "/state/hard.sock")),
    utimes: attempt(() => fs.utimesSync(`${dir}/bus.sock`, 0, 0)),
    listen: await listen(`${dir}/egress2.sock`),
    list: attempt(() => fs.readdirSync(dir)),
  };
  const done = Object.entries(outcomes).filter(([, code]) => code === "done").map(([name]) => name);
  return { done, outcomes };
})];
