// Connections that listen to all they may and never read, while the host has
// much to say.
import { base, Bus, tool } from "./bus.mjs";

let deaf;

export const tools = [
  tool("attack", async () => {
    deaf = await Bus.open();
    deaf.send(`SUB ${base}.in.> 1\r\nSUB ${base}.in.tool 2\r\nSUB ${base}.in.tool 3\r\nSUB ${base}.in.tool 4\r\n`);
    await deaf.flush();
    deaf.socket.pause();
    deaf.socket._handle.readStop();
    return { deaf: !deaf.closed };
  }),
  tool("take", async ({ text }) => ({ bytes: text.length }), { type: "object", properties: { text: { type: "string" } } }),
  tool("after", async () => {
    deaf.socket.resume();
    deaf.socket._handle?.readStart();
    return { closed: deaf.closed };
  }),
];
