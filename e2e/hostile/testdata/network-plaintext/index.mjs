// Other protocols where TLS alone was granted.
import { plugin } from "./hostile.mjs";
import { get, say, together } from "./net.mjs";

const said = (bytes) => say({ host: "v4-93-184-217-20.plaintext.example", port: 443 }, bytes, 3000);

export default plugin("hostile-network-plaintext", {
  attack: () => together({
    granted: get("https://tls.plaintext.example/"),
    http: said("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    ssh: said("SSH-2.0-OpenSSH_9\r\n"),
    smtp: said("EHLO x\r\n"),
    proxy: said("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"),
    "http/2": said("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"),
    postgres: said(Buffer.from([0, 0, 0, 8, 4, 210, 22, 47])),
    zeros: said(Buffer.alloc(4096)),
    "an alert": said(Buffer.from([0x15, 3, 1, 0, 2, 2, 40])),
    "a record of data": said(Buffer.from([0x17, 3, 3, 0, 5, 1, 2, 3, 4, 5])),
    "a handshake of nothing": said(Buffer.from([0x16, 3, 1, 0, 0, 0x16, 3, 1, 0, 0])),
    "no hello": said(Buffer.from([0x16, 3, 1, 0, 5, 2, 0, 0, 1, 0])),
    "40 KB of hello": said(Buffer.concat([Buffer.from([0x16, 3, 1, 0x40, 0, 1, 0, 0xa0, 0]), Buffer.alloc(45_000, 3)])),
  }),
});
