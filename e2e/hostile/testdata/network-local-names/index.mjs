// The names that engines and clouds give the host.
import { plugin } from "./hostile.mjs";
import { ask, get, together } from "./net.mjs";

const names = [
  "host.docker.internal", "gateway.docker.internal", "host.containers.internal", "docker.for.mac.localhost", "metadata.google.internal", "metadata", "instance-data.ec2.internal",
  "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "registry-1.docker.io", "wpad", "gateway", "router.local", "ip6-localhost", "broadcasthost",
];

export default plugin("hostile-network-local-names", {
  attack: () => together({
    "localhost 80": get("http://localhost:80/"),
    "localhost 2375": get("http://localhost:2375/"),
    "localhost, in capitals": get("http://LOCALHOST:2375/"),
    ...Object.fromEntries(names.map((name) => [name, get(`http://${name}/`)])),
    ...Object.fromEntries(["localhost", "127.0.0.1", ...names].map((name) => [`broker ${name}`, ask(`CONNECT ${name}:80\n`)])),
  }),
});
