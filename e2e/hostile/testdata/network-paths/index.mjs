// Other paths and methods than the rule names, spelled in ways that servers fold.
import { plugin } from "./hostile.mjs";
import { request, together } from "./net.mjs";

const host = "api.paths.example";
const to = { host };
const paths = [
  "/closed", "/", "/Open/x", "/OPEN/x", "/open", "/openx", "/open/../closed", "/open/%2e%2e/closed", "/open/%2E./closed", "/open/.%2e/closed", "/open/%252e%252e/closed",
  "/open/..%2fclosed", "/open/..%5cclosed", "/open/..\\closed", "/open\\..\\closed", "/open/..;/closed", "/open/..;a=b/closed", "/open;/../closed", "/open/.;/../closed", "/open//closed",
  "//open/x", "/open/./x", "/open/x/..", "/open/x/%2e", "/open/%2f..%2fclosed", "/open/%00/../closed", "/open/x%00", "/open/%c0%ae%c0%ae/closed", "/open/%e0%80%ae/closed", "/open/\xc0\xae/x",
  "/open/%u002e%u002e/closed", "/open/%zz", "/open/x#/../closed", "/closed#/open/x", "/closed?/open/x", "/closed?x=/open/", "/closed;/open/x", "/%6fpen/x", "/open%2fx", "open/x", "*", "/\t/open/x",
  "/open/\uff0e\uff0e/closed", "/%2e%2e/open/x", "/./open/x", "/x/../open/x",
];
const methods = ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "get", "GeT", "GET\t", "G\0ET", "PROPFIND", "CONNECT", "TRACE", "TRACK", "DEBUG", "X".repeat(100)];
const overrides = ["X-HTTP-Method-Override: DELETE", "X-HTTP-Method: DELETE", "X-Method-Override: DELETE", "x-http-method-override: DELETE", "X-Original-URL: /closed", "X-Rewrite-URL: /closed", "X-Original-URI: /closed", "X-Forwarded-Uri: /closed"];

export default plugin("hostile-network-paths", {
  attack: () => together({
    granted: request(to, "GET /open/x"),
    "granted, a query": request(to, "GET /open/x?a=/../closed"),
    "granted, encoded": request(to, "GET /open/%41b"),
    ...Object.fromEntries(paths.map((path) => [`path ${path}`, request(to, `GET ${path}`)])),
    ...Object.fromEntries(methods.map((method) => [`method ${method}`, request(to, `${method} /open/x`)])),
    ...Object.fromEntries(overrides.map((header) => [`header ${header}`, request(to, "GET /open/x", [header])])),
  }),
});
