import assert from "node:assert/strict";
import { Writable } from "node:stream";
import { test } from "node:test";
import { bound, warner } from "../src/output.mjs";
import { Host, loadMessage } from "./host.mjs";

const MiB = 1024 * 1024;

test("a plugin whose output nobody reads answers, and stays within its memory", async (t) => {
  const host = await Host.start(loadMessage("tools", ["./index.mjs"]));
  t.after(() => host.close());
  host.child.stdout.pause();
  const first = (await host.call("flood", { bytes: 4 * MiB })).result;
  assert.ok(first.unread <= 1.1 * MiB, `${first.unread} bytes wait`);
  const { result: last } = await host.call("flood", { bytes: 100 * MiB });
  assert.ok(last.unread <= 1.1 * MiB && last.memory < first.memory + 40 * MiB, JSON.stringify({ first, last }));
  assert.equal((await host.ask("ping", { type: "ping" })).type, "pong");
  host.child.stdout.resume();
  await host.until(() => host.stdout.length > MiB);
  await host.call("print");
  await host.until(() => host.stdout.endsWith("to stdout\n"));
  assert.match(host.stdout, /\nrunner: \d+ writes were dropped, for nobody read them\n/);
});

test("a plugin that floods its output is not late with pings", async (t) => {
  const host = await Host.start(loadMessage("tools", ["./index.mjs"]));
  t.after(() => host.close());
  const flood = host.call("flood", { bytes: 20 * MiB });
  const pongs = await Promise.all([1, 2, 3].map(() => host.ask("ping", { type: "ping" })));
  assert.deepEqual(pongs.map(({ type }) => type), ["pong", "pong", "pong"]);
  assert.equal((await flood).error, undefined);
});

test("a reader that is gone does not end the plugin", async (t) => {
  const host = await Host.start(loadMessage("tools", ["./index.mjs"]));
  t.after(() => host.close());
  host.child.stdout.destroy();
  for (let i = 0; i < 3; i++) await host.call("print");
  assert.equal((await host.call("sync", 1)).result, 1);
});

test("what is dropped is counted and called back", async () => {
  const written = [];
  let take;
  const stream = bound(new Writable({ decodeStrings: false, write: (chunk, encoding, done) => (written.push(chunk), (take = done)) }), 4);
  const called = [];
  const write = (text, ...more) => stream.write(text, ...more);
  assert.deepEqual([write("abcd"), write("one", () => called.push("one")), write("two", "utf8", () => called.push("two")), write("three")], [true, false, false, false]);
  await new Promise(setImmediate);
  assert.deepEqual(called, ["one", "two"]);
  take();
  await new Promise(setImmediate);
  write("next");
  take();
  await new Promise(setImmediate);
  assert.deepEqual(written, ["abcd", "runner: 3 writes were dropped, for nobody read them\n", "next"]);
});

test("the runner's own lines are few, and none is repeated at once", () => {
  let time = 0;
  const lines = [];
  const warn = warner((line) => lines.push(line), () => time);
  for (let i = 0; i < 1000; i++) warn(`again ${i >> 1}`);
  assert.equal(lines.length, 50);
  assert.deepEqual(lines.slice(0, 2), ["runner: again 0\n", "runner: again 1\n"]);
  time = 3000;
  for (let i = 0; i < 10; i++) warn(`later ${i}`);
  assert.equal(lines.length, 53);
});
