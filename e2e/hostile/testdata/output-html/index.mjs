// Results and errors that a browser would run.
import { tool } from "./bus.mjs";

const evil = "<!doctype html><script>fetch('/v1/plugins')</script>";

export const tools = [tool("attack", async () => ({ html: evil })), tool("text", async () => evil), tool("throws", async () => { throw new Error(evil); })];
