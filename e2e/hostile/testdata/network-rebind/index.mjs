// Names that lead to a good address and then to a bad one.
import { plugin } from "./hostile.mjs";
import { get } from "./net.mjs";

async function count(url) {
  const seen = { reached: 0, refused: 0, elsewhere: 0 };
  for (let i = 0; i < 8; i++) {
    try {
      const text = await get(url, { headers: { connection: "close" } })();
      seen[text.startsWith("reached 93.184.216.34:") ? "reached" : "elsewhere"]++;
    } catch {
      seen.refused++;
    }
  }
  return Object.entries(seen).map(([what, n]) => `${n} ${what}`).join(", ");
}

export default plugin("hostile-network-rebind", {
  attack: async () => {
    const became = {};
    for (const label of ["rebind-169-254-169-254", "rebind-10-0-0-5", "rebind-127-0-0-1", "rebind-8-8-4-4"]) {
      became[`plain ${label}`] = await count(`http://${label}.plain.rebind.example/`);
      became[`seen ${label}`] = await count(`https://${label}.seen.rebind.example/close`);
    }
    return became;
  },
});
