import assert from "node:assert/strict";
import { linkSync, renameSync, rmSync } from "node:fs";
import { setImmediate as turn, setTimeout as sleep } from "node:timers/promises";
import { test } from "node:test";
import { Client, NoAnswerError } from "../src/nats.mjs";
import { Server } from "./host.mjs";

/** A client that is connected to a server; both are closed after the test. */
async function connected(t, onPublish = () => {}, serverOptions = {}) {
  const server = Object.assign(await new Server(onPublish).listen(), serverOptions);
  const downs = [];
  let connects = 0;
  const waiting = [];
  const client = new Client({
    path: server.path, name: "test", version: "9", inbox: "me.in.reply",
    onConnect: () => (connects++, waiting.splice(0).forEach((done) => done())),
    onDown: (reason) => downs.push(reason),
  });
  t.after(async () => {
    await client.close();
    await server.close();
  });
  const next = () => new Promise((done) => waiting.push(done));
  const first = next();
  client.connect();
  await first;
  return { server, client, downs, next, connects: () => connects };
}

test("the client introduces itself and subscribes", async (t) => {
  const got = Promise.withResolvers();
  const { server, client } = await connected(t, (...message) => got.resolve(message));
  client.subscribe("me.in.tool", () => {});
  client.publish("me.out.hello", "grüß dich", "me.in.reply.1");
  const [subject, payload, reply, connection] = await got.promise;
  assert.deepEqual([subject, payload, reply], ["me.out.hello", "grüß dich", "me.in.reply.1"]);
  assert.deepEqual([...connection.subs], [["me.in.reply.*", "0"], ["me.in.tool", "1"]]);
  const { verbose, pedantic, headers, no_responders, protocol, name, version } = connection.connect;
  assert.deepEqual({ verbose, pedantic, headers, no_responders, protocol, name, version },
    { verbose: false, pedantic: false, headers: true, no_responders: true, protocol: 1, name: "test", version: "9" });
  assert.equal(server.connections.length, 1);
});

test("messages reach their subscription", async (t) => {
  const { server, client } = await connected(t);
  const got = [];
  const both = Promise.withResolvers();
  client.subscribe("me.in.tool", (payload, reply) => (got.push(["tool", payload.toString()]), reply.send("answer")));
  client.subscribe("me.in.ping", (payload, reply) => {
    got.push(["ping", payload.toString()]);
    reply.send("nobody asked");
    both.resolve();
  });
  const barrier = client.request("sync", "", 5000);
  server.onPublish = (subject, payload, reply) => server.send(reply, "ok");
  await barrier;
  const answered = Promise.withResolvers();
  server.onPublish = (subject, payload) => answered.resolve([subject, payload]);
  server.send("me.in.tool", "one", "r.1");
  server.send("me.in.nobody", "two");
  server.send("me.in.ping", "three");
  await both.promise;
  assert.deepEqual(got, [["tool", "one"], ["ping", "three"]]);
  assert.deepEqual(await answered.promise, ["r.1", "answer"]);
});

test("answers find their request in any order", async (t) => {
  const { server, client } = await connected(t);
  const held = [];
  server.onPublish = (subject, payload, reply) => {
    held.push([reply, payload]);
    if (held.length === 3) for (const [to, text] of held.reverse()) server.send(to, text.toUpperCase());
  };
  const answers = await Promise.all(["a", "b", "c"].map((text) => client.request("q", text, 5000)));
  assert.deepEqual(answers.map(String), ["A", "B", "C"]);
});

test("a request that nobody hears is told so", async (t) => {
  const { client } = await connected(t, (subject, payload, reply, { socket }) => {
    socket.write(`HMSG ${reply} 0 16 16\r\nNATS/1.0 503\r\n\r\n\r\n`);
  });
  await assert.rejects(client.request("q", "", 5000), new NoAnswerError("nobody listens"));
});

test("a request that nobody answers ends in time", async (t) => {
  const { client } = await connected(t);
  await assert.rejects(client.request("q", "", 5), new NoAnswerError("no answer in time"));
});

test("a lost connection fails what waits, and comes back with its subscriptions", async (t) => {
  const { server, client, downs, next, connects } = await connected(t);
  const got = Promise.withResolvers();
  client.subscribe("me.in.tool", (payload) => got.resolve(payload.toString()));
  const asked = Promise.withResolvers();
  server.onPublish = asked.resolve;
  const waiting = client.request("q", "", 5000);
  await asked.promise;
  const again = next();
  server.drop();
  await assert.rejects(waiting, NoAnswerError);
  client.publish("lost", "x"); // dropped: there is no connection
  await again;
  server.onPublish = (subject, payload, reply) => server.send(reply, subject);
  assert.equal(String(await client.request("after", "", 5000)), "after");
  server.send("me.in.tool", "hello");
  assert.equal(await got.promise, "hello");
  assert.equal(connects(), 2);
  assert.equal(downs.length, 1);
});

test("the server's reason for closing is told", async (t) => {
  const { server, downs, next } = await connected(t);
  const again = next();
  server.connections[0].socket.end("-ERR 'Maximum Payload Violation'\r\n");
  await again;
  assert.deepEqual(downs, ["Maximum Payload Violation"]);
});

test("bytes that are no protocol end the connection", async (t) => {
  const { server, downs, next } = await connected(t);
  const again = next();
  server.connections[0].socket.write("GET / HTTP/1.1\r\n");
  await again;
  assert.match(downs[0], /unknown operation/);
});

test("a payload over the server's limit is refused, and the limit may change", async (t) => {
  const { server, client } = await connected(t, () => {}, { maxPayload: 10 });
  assert.equal(client.maxPayload, 10);
  assert.throws(() => client.publish("a", "größergröß"), RangeError);
  await assert.rejects(client.request("a", "12345678901", 5000), RangeError);
  client.publish("a", "1234567890");
  server.connections[0].socket.write('INFO {"max_payload":20}\r\n');
  server.onPublish = (subject, payload, reply) => server.send(reply, "ok");
  await client.request("a", "", 5000);
  assert.equal(client.maxPayload, 20);
});

test("a ping is answered", async (t) => {
  const { server } = await connected(t);
  const pong = Promise.withResolvers();
  server.connections[0].socket.on("data", (data) => String(data).includes("PONG\r\n") && pong.resolve());
  server.connections[0].socket.write("PING\r\n");
  await pong.promise;
});

test("a host that does not read is not read from", async (t) => {
  const { server, client } = await connected(t);
  let heard = 0;
  client.subscribe("me.in.tool", () => heard++);
  server.onPublish = (subject, payload, reply) => reply && server.send(reply, "");
  await client.request("sync", "", 5000);
  const { socket } = server.connections[0];
  socket.pause();
  const text = "x".repeat(1024 * 1024);
  for (let i = 0; i < 8; i++) client.publish("a", text);
  await turn();
  assert.equal(client.congested, true);
  server.send("me.in.tool", "");
  for (let i = 0; i < 20; i++) await turn();
  assert.equal(heard, 0);
  socket.resume();
  await client.request("sync", "", 5000);
  assert.equal(heard, 1);
  assert.equal(client.congested, false);
});

test("close sends what was written", async (t) => {
  const { server, client } = await connected(t);
  const got = Promise.withResolvers();
  server.onPublish = (subject, payload) => got.resolve(payload);
  client.publish("a", "last words");
  await client.close();
  assert.equal(await got.promise, "last words");
});

test("a socket that a killed host left is replaced by the next one", async (t) => {
  const { server, client, next } = await connected(t);
  const again = next();
  const kept = `${server.path}.kept`;
  linkSync(server.path, kept);
  await server.die(); // it takes the name away
  renameSync(kept, server.path);
  await sleep(1200);
  rmSync(server.path);
  await server.listen();
  const since = performance.now();
  await again;
  assert.ok(performance.now() - since < 2000);
  server.onPublish = (subject, payload, reply) => server.send(reply, "ok");
  assert.equal(String(await client.request("after", "", 5000)), "ok");
});
