// Looks for the sockets of other instances, of the host and of the engine.
import { connect } from "node:net";
import { tool } from "./bus.mjs";

const reach = (path) => new Promise((done) => {
  const socket = connect({ path });
  socket.on("connect", () => (socket.destroy(), done("connected")));
  socket.on("error", (error) => done(error.code));
  setTimeout(() => (socket.destroy(), done("nothing")), 2000).unref();
});

export const tools = [tool("attack", async ({ paths = [] }) => {
  const tried = [
    ...paths, "/run/docker.sock", "/var/run/docker.sock", "/run/containerd/containerd.sock", "/run/ocmt/admin.sock", "/run/ocmt/call.sock",
    "/run/ocmt/../ocmt/../../run/docker.sock", "/proc/1/root/run/docker.sock", "/proc/self/root/run/docker.sock", "\0docker", "\0/containerd-shim", "\0ocmt",
    ...paths.map((path) => `/proc/1/root${path}`), ...paths.map((path) => `/run/ocmt/../../..${path}`),
  ];
  const outcomes = {};
  for (const path of tried) outcomes[path] = await reach(path);
  return { tried: tried.length, connected: Object.keys(outcomes).filter((path) => outcomes[path] === "connected"), outcomes };
})];
