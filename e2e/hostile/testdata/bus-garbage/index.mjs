// What is no protocol, and what is the protocol of servers among themselves.
import { background, base, Bus } from "./bus.mjs";

const lines = [
  "\0\0\0\0\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(5000), `PUB ${"x".repeat(5000)} 1\r\n`, "PUB\r\n", "PUB a\r\n", `PUB ${base}.out.host 1e3\r\n`,
  `PUB ${base}.out.host 0x10\r\n`, `PUB ${base}.out.host 5\nhello\n`, "PUB a b c d 5\r\nhello\r\n", "\r\n", "\n", "SUB\r\n", "SUB a b c d e\r\n",
  "UNSUB\r\n", "CONNECT {\r\n", "CONNECT\r\n", "INFO {}\r\n", "MSG a 1 5\r\nhello\r\n", "HMSG a 1 5 5\r\nhello\r\n", "+OK\r\n", "-ERR 'x'\r\n",
  "RS+ $G a\r\n", "RMSG $G a 5\r\nhello\r\n", "LS+ a\r\n", "LMSG a 5\r\nhello\r\n", "A+ $SYS\r\n", "A- $SYS\r\n", "PING x\r\n", "ping\r\n",
  `HPUB ${base}.out.host 20 5\r\nhello\r\n`, "\xff\xfe\xfd\r\n", `PUB ${base}.out.host 5\r\nhelloworld\r\n`,
];

export const tools = background(async () => {
  const kept = [];
  let refused = 0;
  for (const line of lines) {
    const bus = await Bus.open();
    bus.send(line);
    await bus.flush(1500);
    if (bus.closed || bus.refusals.length > 0) refused++;
    else kept.push(line.slice(0, 40));
    bus.end();
  }
  return { tried: lines.length, refused, kept };
});
