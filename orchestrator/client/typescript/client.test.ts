import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { connect, ok, OcmtError } from "./client.ts";
import { messages } from "./sse.ts";

/** Serves on a unix socket, and returns its path. */
async function serve(t: TestContext, handler: http.RequestListener): Promise<string> {
  const dir = mkdtempSync(join(tmpdir(), "ocmt-"));
  const socket = join(dir, "s.sock");
  const server = http.createServer(handler);
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
    rmSync(dir, { recursive: true });
  });
  return socket;
}

const stream = (...parts: string[]): ReadableStream<Uint8Array> => ReadableStream.from(parts.map((part) => new TextEncoder().encode(part)));

const isError = (code: string, kind: string) => (error: unknown): boolean => error instanceof OcmtError && error.code === code && error.class === kind;

test("server-sent events, however they are cut", async () => {
  const text = ": hello\n\nid: 7\nevent: a\ndata: 1\ndata: 2é\n\nevent:b\r\ndata:x\r\n\r\nevent: none\n\ndata\n\ndata: lost";
  const want = [{ id: "7", event: "a", data: "1\n2é" }, { id: "7", event: "b", data: "x" }, { id: "7", event: "", data: "" }];
  assert.deepEqual(await Array.fromAsync(messages(stream(text))), want);
  assert.deepEqual(await Array.fromAsync(messages(stream(...text))), want);
});

test("errors keep their class, code and hint", async (t) => {
  const { api } = connect(await serve(t, (_, answer) => {
    answer.writeHead(404, { "content-type": "application/json" });
    answer.end(JSON.stringify({ class: "not_found", code: "plugin_not_found", message: "no plugin", hint: "look", retryable: false }));
  }));
  await assert.rejects(ok(api.GET("/v1/version")), { class: "not_found", code: "plugin_not_found", message: "no plugin", hint: "look" });
});

test("what is no daemon is told apart", async (t) => {
  const { api } = connect(await serve(t, (_, answer) => answer.writeHead(500, { "content-type": "text/plain" }).end("oops")));
  await assert.rejects(ok(api.GET("/v1/version")), isError("no_daemon", "unavailable"));
  await assert.rejects(ok(connect("/nowhere/x.sock").api.GET("/v1/version")), isError("daemon_unreachable", "unavailable"));
  await assert.rejects(connect("/nowhere/x.sock").attach("default", "x", [], () => {}), isError("daemon_unreachable", "unavailable"));
});

test("names stay in their segment", async (t) => {
  let asked = "";
  const { api } = connect(await serve(t, (request, answer) => {
    asked = request.url ?? "";
    answer.writeHead(200, { "content-type": "application/json" }).end("{}");
  }));
  await ok(api.GET("/v1/tenants/{tenant}/plugins/{id}", { params: { path: { tenant: "default", id: "@a/b?c" } } }));
  assert.equal(asked, "/v1/tenants/default/plugins/%40a%2Fb%3Fc");
  for (const id of ["", ".", ".."]) {
    await assert.rejects(async () => ok(api.GET("/v1/tenants/{tenant}/plugins/{id}", { params: { path: { tenant: "default", id } } })), isError("bad_name", "invalid_argument"));
  }
});

test("secrets are sent in a body, and answers may be empty", async (t) => {
  const asked: string[] = [];
  const { api } = connect(await serve(t, async (request, answer) => {
    const body = (await Array.fromAsync(request)).join("");
    asked.push(`${request.method} ${request.url} ${body}`);
    if (request.method === "PUT") answer.writeHead(200, { "content-type": "application/json" }).end('{"name":"KEY","plugins":[]}');
    else answer.writeHead(204).end();
  }));
  const path = { tenant: "default", secret: "KEY" };
  const set = await ok(api.PUT("/v1/tenants/{tenant}/secrets/{secret}", { params: { path }, body: { value: "k", host: "api.example.com", header: "X-Key" } }));
  assert.equal(set.name, "KEY");
  assert.equal(await ok(api.DELETE("/v1/tenants/{tenant}/secrets/{secret}", { params: { path } })), undefined);
  await ok(api.POST("/v1/secrets/rotate"));
  assert.deepEqual(asked, [
    'PUT /v1/tenants/default/secrets/KEY {"value":"k","host":"api.example.com","header":"X-Key"}',
    "DELETE /v1/tenants/default/secrets/KEY ", "POST /v1/secrets/rotate ",
  ]);
});

test("a stream that breaks off is an error", async (t) => {
  const bodies = ["", "event: update\ndata: 1\n\n", "event: done\ndata: {\n\n"];
  for (const [i, body] of [...bodies, "cut"].entries()) {
    const ocmt = connect(await serve(t, (_, answer) => {
      answer.writeHead(200, { "content-type": "text/event-stream" });
      if (i < bodies.length) answer.end(body);
      else answer.write("event: update\ndata: 1\n\n", () => answer.destroy());
    }));
    await assert.rejects(Array.fromAsync(ocmt.stream("default", "demo", "x", {})), isError("daemon_lost", "unavailable"), body);
  }
});

test("hanging up reaches the daemon", async (t) => {
  const hungUp: Array<() => void> = [];
  const ocmt = connect(await serve(t, (_, answer) => {
    answer.on("close", () => hungUp.shift()?.());
    answer.writeHead(200, { "content-type": "text/event-stream" }).write("event: update\ndata: 1\n\n");
  }));
  const gone = (): Promise<void> => new Promise((resolve) => hungUp.push(resolve));

  const left = gone();
  for await (const { event } of ocmt.stream("default", "demo", "x", {})) {
    assert.equal(event, "update");
    break;
  }
  await left;

  const aborted = gone();
  const stop = new AbortController();
  await assert.rejects(async () => {
    for await (const _ of ocmt.stream("default", "demo", "x", {}, { signal: stop.signal })) stop.abort();
  }, { name: "AbortError" });
  await aborted;
});

test("a follower of events comes back where it was", async (t) => {
  const asked: string[] = [];
  const stop = new AbortController();
  const ocmt = connect(await serve(t, (request, answer) => {
    asked.push(request.url ?? "");
    const seq = asked.length;
    answer.writeHead(200, { "content-type": "text/event-stream" });
    answer.write(`id: ${seq}\nevent: plugin.state\ndata: {"seq":${seq}}\n\n`, () => seq % 2 ? answer.destroy() : answer.end());
  }));
  const seen: number[] = [];
  for await (const { seq } of ocmt.events("default", { follow: true, signal: stop.signal })) {
    if (seen.push(seq) === 3) stop.abort();
  }
  assert.deepEqual(seen, [1, 2, 3]);
  assert.deepEqual(asked, [0, 1, 2].map((since) => `/v1/tenants/default/events?since=${since}&follow=true`));
});

test("a refusal to attach is the daemon's error", async (t) => {
  const socket = await serve(t, (_, answer) => answer.end());
  const refused = { class: "permission_denied", code: "permission_denied", message: "not you", retryable: false };
  const other = await serve(t, (_, answer) => answer.writeHead(403, { "content-type": "application/json" }).end(JSON.stringify(refused)));
  await assert.rejects(connect(other).attach("default", "x", [], () => {}), isError("permission_denied", "permission_denied"));
  await assert.rejects(connect(socket).attach("default", "x", [], () => {}), isError("no_daemon", "unavailable"));
});
