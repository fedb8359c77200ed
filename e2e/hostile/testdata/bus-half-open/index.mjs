// Connections that never say who they are, and one that stops in the middle of
// a message.
import { background, base, Bus } from "./bus.mjs";

export const tools = background(async () => {
  const silent = await Bus.open(null);
  await silent.until(/-ERR/, 8000);
  const first = silent.refusals[0] ?? "kept";
  silent.end();
  const half = await Bus.open();
  half.send(`PUB ${base}.out.host 1000\r\nhalf`);
  half.socket.end(); // its own direction alone
  await half.until(/never/, 3000);
  const second = half.closed ? "closed" : "kept";
  half.end();
  return { silent: first, half: second };
});
