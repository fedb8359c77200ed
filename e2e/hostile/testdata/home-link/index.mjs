// Puts links to a directory of the host where the host may make something: its
// home in the state, and the state itself.
import { renameSync, rmSync, symlinkSync } from "node:fs";
import { attempts, plugin } from "./hostile.mjs";

const attack = ({ decoy }) => attempts({
  "home": () => {
    rmSync("/state/home", { recursive: true, force: true });
    symlinkSync(decoy, "/state/home");
  },
  "lost+found": () => symlinkSync(decoy, "/state/lost+found"),
  "the state itself": () => renameSync("/state", "/state.old"),
});

export default plugin("hostile-home-link", { attack, still: () => ({ here: "yes" }) });
