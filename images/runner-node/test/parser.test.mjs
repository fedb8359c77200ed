import assert from "node:assert/strict";
import { test } from "node:test";
import { Parser } from "../src/parser.mjs";

function record() {
  const events = [];
  const sink = {
    info: (info) => events.push(["info", info]),
    message: (subject, sid, payload, reply, status) => events.push(["message", subject, sid, payload.toString(), reply, status]),
    ping: () => events.push(["ping"]),
    pong: () => events.push(["pong"]),
    error: (text) => events.push(["error", text]),
  };
  return { events, parser: new Parser(sink) };
}

const TRANSCRIPT = Buffer.from(
  'INFO {"max_payload":99,"name":"größer"} \r\n+OK\r\nPING\r\npong\r\n' +
  "MSG a.b 1 5\r\nhello\r\nMSG a.b 22 reply.1 0\r\n\r\n" +
  "MSG a.b 1 8\r\n\r\nPING\r\n\r\n" +
  "HMSG in.reply.7 0 16 16\r\nNATS/1.0 503\r\n\r\n\r\n" +
  "HMSG a 3 r 18 21\r\nNATS/1.0\r\nA: b\r\n\r\näx\r\n" +
  "-ERR 'Authorization Violation'\r\n",
);

const EVENTS = [
  ["info", { max_payload: 99, name: "größer" }],
  ["ping"],
  ["pong"],
  ["message", "a.b", 1, "hello", "", 0],
  ["message", "a.b", 22, "", "reply.1", 0],
  ["message", "a.b", 1, "\r\nPING\r\n", "", 0],
  ["message", "in.reply.7", 0, "", "", 503],
  ["message", "a", 3, "äx", "r", 0],
  ["error", "Authorization Violation"],
];

test("a transcript is read whole", () => {
  const { events, parser } = record();
  parser.feed(TRANSCRIPT);
  assert.deepEqual(events, EVENTS);
});

test("a transcript is read whatever its chunk borders", () => {
  for (let a = 0; a <= TRANSCRIPT.length; a++) {
    for (const b of [a, a + 1, a + 2, a + 13]) {
      const { events, parser } = record();
      for (const part of [TRANSCRIPT.subarray(0, a), TRANSCRIPT.subarray(a, b), TRANSCRIPT.subarray(b)]) parser.feed(part);
      assert.deepEqual(events, EVENTS, `cut at ${a} and ${b}`);
    }
  }
});

test("a transcript is read byte by byte", () => {
  const { events, parser } = record();
  for (const byte of TRANSCRIPT) parser.feed(Buffer.of(byte));
  assert.deepEqual(events, EVENTS);
});

test("a large message in many chunks is put together once", () => {
  const { events, parser } = record();
  const payload = "x".repeat(8 * 1024 * 1024);
  const bytes = Buffer.from(`MSG a 1 ${payload.length}\r\n${payload}\r\nPING\r\n`);
  for (let at = 0; at < bytes.length; at += 65_536) parser.feed(bytes.subarray(at, at + 65_536));
  assert.equal(events[0][3], payload);
  assert.deepEqual(events[1], ["ping"]);
});

for (const [name, bytes] of Object.entries({
  "an unknown operation": "HELLO you\r\n",
  "a message without a size": "MSG a\r\n",
  "a size that is no number": "MSG a 1 five\r\n",
  "a negative size": "MSG a 1 -1\r\n",
  "an enormous size": "MSG a 1 99999999999\r\n",
  "headers longer than the message": "HMSG a 1 20 10\r\n",
  "INFO that is not JSON": "INFO {\r\n",
  "an endless control line": "MSG ".padEnd(70_000, "a"),
})) {
  test(`${name} is refused`, () => {
    assert.throws(() => record().parser.feed(Buffer.from(bytes)));
  });
}
