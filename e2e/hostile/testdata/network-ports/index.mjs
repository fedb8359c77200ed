// Other ports of a granted host.
import { plugin } from "./hostile.mjs";
import { ask, get, say, together } from "./net.mjs";

const ports = [22, 25, 81, 443, 2375, 8080, 65535];

export default plugin("hostile-network-ports", {
  attack: () => together({
    granted: get("http://api.ports.example/"),
    ...Object.fromEntries(ports.map((port) => [port, say({ host: "api.ports.example", port }, "GET / HTTP/1.0\r\n\r\n")])),
    ...Object.fromEntries([...ports, 0, 65536, 65616, "080", "+80", "80 ", "80x", "0x50", "", "-1", "80:443"].map((port) => [`broker ${port}`, ask(`CONNECT api.ports.example:${port}\n`)])),
  }),
});
