// A granted host that sends its visitors elsewhere.
import { attempts, plugin } from "./hostile.mjs";
import { get } from "./net.mjs";

const to = (target, scheme = "http") => get(`${scheme}://start.redirect.example/redirect?to=${encodeURIComponent(target)}`);

export default plugin("hostile-network-redirect", {
  attack: () => attempts({
    granted: to("http://start.redirect.example/end"),
    metadata: to("http://169.254.169.254/latest/meta-data/"),
    decimal: to("http://2852039166/"),
    loopback: to("http://127.0.0.1:2375/"),
    localhost: to("http://localhost:2375/"),
    "another host": to("http://other.redirect.example/"),
    "another port": to("http://start.redirect.example:8080/"),
    "seen, metadata": to("http://169.254.169.254/", "https"),
    "seen, another host": to("https://other.redirect.example/", "https"),
    "refused path": to("https://start.redirect.example/end", "https"),
  }),
});
