// Speaks to the engine, by whose socket everything else would follow.
import { connect } from "node:net";
import { symlinkSync } from "node:fs";
import { attempts, plugin } from "./hostile.mjs";

const sockets = [
  "/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", "/var/run/containerd/containerd.sock", "/run/crio/crio.sock",
  "/run/podman/podman.sock", "/run/dbus/system_bus_socket", "/run/systemd/private", "/run/snapd.socket", "/run/ocmt/../docker.sock",
];

const speak = (path) => () => new Promise((resolve, reject) => {
  const socket = connect(path, () => socket.write("GET /_ping HTTP/1.0\r\n\r\n"));
  socket.setTimeout(2000, () => reject(Object.assign(new Error("silent"), { code: "silent" })));
  socket.on("data", (data) => resolve(String(data)));
  socket.on("error", reject);
});

function attack({ work, home, decoy }) {
  const actions = {};
  const linked = (name, path) => () => {
    symlinkSync(path, `${work}/${name}`);
    return speak(`${work}/${name}`)();
  };
  for (const path of [...sockets, decoy, `${home}/ocmt/run/admin.sock`, `${home}/ocmt/tenants/default/call.sock`]) actions[path] = speak(path);
  for (const path of sockets) actions[`${path} by /proc`] = speak(`/proc/1/root${path}`);
  actions["docker by a link"] = linked("docker", "/run/docker.sock");
  actions["containerd by a link"] = linked("containerd", "/run/containerd/containerd.sock");
  actions["decoy by a link"] = linked("decoy", decoy);
  return attempts(actions);
}

export default plugin("hostile-engine-sockets", { attack });
