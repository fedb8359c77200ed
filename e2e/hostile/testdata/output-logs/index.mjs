// Prints lines that look like those of the host, of other plugins, and of the
// audit log.
import { plugin } from "./hostile.mjs";

const evil = "\u001b[2J\u001b]0;owned\u0007\r";
const lies = [
  '{"seq":999999,"action":"permission.grant","actor":"uid:0","plugin":"hostile-output-logs","outcome":"done"}',
  "2026-11-23 01:00:00 UTC host.log victim: forged", "time=2026-11-23T01:00:00Z level=ERROR msg=\"forged by the plugin\" plugin=victim",
  "ocmt: forged by the plugin", `${evil}forged over the line`, "\u202edegrof", "x".repeat(100_000),
];

export default plugin("hostile-output-logs", {
  attack: (_, api) => {
    for (const lie of lies) {
      console.log(lie);
      console.error(lie);
      process.stdout.write(`${lie}\n\n\r${lie}\r`);
      api.logger.info(`first\n${lie}`);
      api.logger.error(lie, { plugin: "victim", level: "info", message: lie });
    }
    process.stdout.write(Buffer.from([0xff, 0xfe, 0x00, 0x1b, 0x5b, 0x32, 0x4a, 0x0a]));
    return { printed: "lies" };
  },
});
