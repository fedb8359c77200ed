import http from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ReadableStream } from "node:stream/web";
import { unreachable } from "./errors.ts";

/** Returns a fetch whose requests go to a unix socket, whatever their host is. */
export function unixFetch(socket: string): (request: Request) => Promise<Response> {
  const agent = new http.Agent({ keepAlive: true });
  return (request) => new Promise((resolve, reject) => {
    const url = new URL(request.url);
    const sent = http.request({
      agent, socketPath: socket, path: url.pathname + url.search, method: request.method,
      headers: Object.fromEntries(request.headers), signal: request.signal,
    });
    sent.on("response", (answer) => resolve(response(answer)));
    sent.on("error", (error) => reject(request.signal.aborted ? request.signal.reason : unreachable(socket, error)));
    if (request.body === null) {
      sent.end();
    } else { // an answer may come before all of a body was sent; why it broke off is told by "error"
      pipeline(Readable.fromWeb(request.body as ReadableStream), sent).catch(() => {});
    }
  });
}

function response(answer: http.IncomingMessage): Response {
  const status = answer.statusCode ?? 0;
  const headers = new Headers();
  for (let i = 0; i + 1 < answer.rawHeaders.length; i += 2) {
    headers.append(answer.rawHeaders[i]!, answer.rawHeaders[i + 1]!);
  }
  if (status === 204 || status === 304) {
    answer.resume();
    return new Response(null, { status, headers });
  }
  return new Response(Readable.toWeb(answer) as globalThis.ReadableStream, { status, headers });
}
