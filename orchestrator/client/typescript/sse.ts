/** A server-sent event. */
export interface Message {
  id: string;
  event: string;
  data: string;
}

/** Reads server-sent events. What is begun at the end of the stream is dropped; leaving the loop cancels the stream. */
export async function* messages(body: ReadableStream<Uint8Array>): AsyncGenerator<Message, void, undefined> {
  let [id, event, data] = ["", "", undefined as string | undefined];
  for await (const line of lines(body)) {
    if (line === "") {
      if (data !== undefined) yield { id, event, data };
      [event, data] = ["", undefined];
      continue;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "id") id = value;
    if (field === "event") event = value;
    if (field === "data") data = data === undefined ? value : `${data}\n${value}`;
  }
}

async function* lines(body: ReadableStream<Uint8Array>): AsyncGenerator<string, void, undefined> {
  const decoder = new TextDecoder();
  let rest: string[] = []; // of a line that has not ended
  for await (const chunk of body) {
    const parts = decoder.decode(chunk, { stream: true }).split("\n");
    rest.push(parts.shift()!);
    while (parts.length > 0) {
      yield rest.join("").replace(/\r$/, "");
      rest = [parts.shift()!];
    }
  }
}
