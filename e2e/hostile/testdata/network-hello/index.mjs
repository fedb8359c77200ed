// TLS for another host, or for nobody knows whom, on a connection to a granted one.
import { randomBytes } from "node:crypto";
import { plugin } from "./hostile.mjs";
import { get, say, together } from "./net.mjs";

const host = "v4-93-184-217-14.hello.example";
const u16 = (n) => Buffer.from([n >> 8, n & 255]);
const sized = (bytes) => Buffer.concat([u16(bytes.length), bytes]);
const extension = (type, bytes) => Buffer.concat([u16(type), sized(bytes)]);
const name = (text, type = 0) => Buffer.concat([Buffer.from([type]), sized(Buffer.from(text, "latin1"))]);
const names = (...list) => extension(0, sized(Buffer.concat(list)));

/** A ClientHello as a record, by hand. */
function hello(...extensions) {
  const offers = [
    extension(43, Buffer.from([4, 3, 4, 3, 3])), extension(10, sized(u16(0x1d))), extension(13, sized(Buffer.from([4, 3, 8, 4]))),
    extension(51, sized(Buffer.concat([u16(0x1d), sized(randomBytes(32))]))),
  ];
  const body = Buffer.concat([u16(0x303), randomBytes(32), Buffer.from([0]), sized(Buffer.from([0x13, 1, 0xc0, 0x2b])), Buffer.from([1, 0]), sized(Buffer.concat([...extensions, ...offers]))]);
  const message = Buffer.concat([Buffer.from([1, 0]), sized(body)]);
  return Buffer.concat([Buffer.from([0x16, 3, 1]), sized(message)]);
}

/** The same bytes as two records. */
const split = (record, at) => Buffer.concat([record.subarray(0, 3), sized(record.subarray(5, at)), record.subarray(0, 3), sized(record.subarray(at))]);
const ech = extension(0xfe0d, Buffer.concat([Buffer.from([0, 0, 1, 0, 1, 7]), sized(randomBytes(32)), sized(randomBytes(200))]));

/** An answer that is a ServerHello. */
const served = (bytes) => async () => {
  const answer = await say({ host: "v4-93-184-217-15.hello.example", port: 443 }, bytes, 500)();
  return answer.charCodeAt(0) === 0x16 ? "a hello" : answer;
};
const said = (bytes) => say({ host, port: 443 }, bytes, 3000);
const secure = (servername, more = {}) => say({ host, port: 443, servername, ...more }, "GET / HTTP/1.0\r\n\r\n", 3000);

export default plugin("hostile-network-hello", {
  attack: () => together({
    granted: get("https://v4-93-184-217-15.hello.example/"),
    "granted, by hand": served(hello(names(name("v4-93-184-217-15.hello.example")))),
    "granted, in two records": served(split(hello(names(name("v4-93-184-217-15.hello.example"))), 60)),
    "another name": secure("other.hello.example"),
    "a name below": secure(`x.${host}`),
    "a final dot": said(hello(names(name(`${host}.`)))),
    "no name": secure("", { host }),
    "no extension": said(hello()),
    "an address": said(hello(names(name("93.184.217.14")))),
    "two names": said(hello(names(name(host), name("other.hello.example")))),
    "two extensions": said(hello(names(name(host)), names(name("other.hello.example")))),
    "another kind of name": said(hello(names(name("other.hello.example", 1)))),
    "a zero byte": said(hello(names(name(`${host}\0.other.hello.example`)))),
    "an empty name": said(hello(names(name("")))),
    encrypted: said(hello(names(name(host)), ech)),
    "encrypted, other outside": said(hello(names(name("public.hello.example")), ech)),
    "another name, in two records": said(split(hello(names(name("other.hello.example"))), 60)),
    "SSL 2": said(Buffer.concat([Buffer.from([0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10]), randomBytes(40)])),
  }),
});
