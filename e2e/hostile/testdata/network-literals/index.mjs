// Addresses that the attacker names itself.
import { plugin } from "./hostile.mjs";
import { ask, get, say, together } from "./net.mjs";

const urls = [
  "http://169.254.169.254/", "http://2852039166/", "http://0251.0376.0251.0376/", "http://0xa9fea9fe/", "http://169.254.43518/", "http://[::ffff:169.254.169.254]/",
  "http://[::ffff:a9fe:a9fe]/", "http://[64:ff9b::a9fe:a9fe]/", "http://[2002:a9fe:a9fe::1]/", "http://93.184.216.34/", "http://10.0.0.5/", "http://0/", "http://127.1:2375/", "http://[::1]:2375/",
];
const lines = [
  "169.254.169.254:80", "2852039166:80", "0251.0376.0251.0376:80", "0xa9fea9fe:80", "[::ffff:169.254.169.254]:80", "[::ffff:a9fe:a9fe]:80", "[64:ff9b::a9fe:a9fe]:80", "[fe80::1%eth0]:80",
  "127.0.0.1:2375", "[::1]:2375", "93.184.216.34:443", "0:80", "0.0.0.0:80",
];

export default plugin("hostile-network-literals", {
  attack: () => together({
    ...Object.fromEntries(urls.map((url) => [url, get(url)])),
    socket: say({ host: "169.254.169.254", port: 80, family: 4 }, "GET / HTTP/1.0\r\n\r\n"),
    ...Object.fromEntries(lines.map((line) => [`broker ${line}`, ask(`CONNECT ${line}\n`)])),
  }),
});
