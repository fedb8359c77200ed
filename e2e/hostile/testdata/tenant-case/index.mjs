// Is installed once more under its neighbour's id in capitals.
import { plugin } from "./hostile.mjs";

const forged = () => ({ text: "forged", boot: "forged" });

export default plugin(undefined, { attack: () => ({ as: "VICTIM" }), look: forged, keep: forged });
