// Reads the secrets that lie in a directory that it was granted, and gets at
// what covers them.
import { linkSync, readFileSync, readdirSync, renameSync, unlinkSync, writeFileSync } from "node:fs";
import { attempts, plugin } from "./hostile.mjs";

/** Fails where there is nothing to be read. */
const some = (text) => (text.length > 0 ? String(text) : Promise.reject("empty"));

function attack({ work, secrets, dirs }) {
  const actions = {};
  for (const name of secrets) {
    const path = `${work}/${name}`;
    actions[`read ${name}`] = () => some(readFileSync(path, "utf8"));
    actions[`write ${name}`] = () => writeFileSync(path, "HOSTILE=1");
    actions[`remove ${name}`] = () => unlinkSync(path);
    actions[`move ${name}`] = () => renameSync(path, `${work}/moved`);
    actions[`link ${name}`] = () => {
      linkSync(path, `${work}/linked`);
      return some(readFileSync(`${work}/linked`, "utf8"));
    };
  }
  for (const name of dirs) {
    actions[`list ${name}`] = () => some(readdirSync(`${work}/${name}`));
    actions[`move ${name}`] = () => renameSync(`${work}/${name}`, `${work}/moved-dir`);
  }
  return attempts(actions);
}

export default plugin("hostile-hidden-secrets", { attack });
