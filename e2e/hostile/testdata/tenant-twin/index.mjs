// Has the same id in another tenant, and looks whether they share anything.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { plugin } from "./hostile.mjs";

const file = "/state/twin";

export default plugin("hostile-tenant-twin", {
  attack: () => ({ before: existsSync(file) ? readFileSync(file, "utf8") : "nothing", mark: (writeFileSync(file, `${process.env.OCMT_TENANT} ${process.getuid()}`), process.env.OCMT_TENANT) }),
});
