// Command demo runs the main job on a real npm plugin and prints what happens:
// install, call, a look from inside the sandbox, a kill and the return, hooks,
// a service, a grant, the audit log, a tampered payload, and a stop that
// leaves nothing. It ends with 0 only if every step held.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ocmt/ocmt/e2e/harness"
)

const (
	spec     = "@openclaw/kitchen-sink@0.3.0"
	pluginID = "openclaw-kitchen-sink-fixture"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demo: FAILED:", err)
		os.Exit(1)
	}
}

// demo is one run: a temporary directory and what talks about it.
type demo struct {
	dir string
	out io.Writer
	d   *harness.Daemon
}

func run(ctx context.Context, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "ocmt-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	start := time.Now()
	x := &demo{dir: dir, out: out}
	if x.d, err = harness.Start(ctx, filepath.Join(dir, "home")); err != nil {
		return err
	}
	running := true
	defer func() {
		if running {
			err = errors.Join(err, takeDown(x.d))
		}
	}()
	for _, step := range []struct {
		title string
		run   func(context.Context) error
	}{
		{"Install a real npm plugin, unmodified", x.install},
		{"Call one of its tools", x.call},
		{"Look around from inside its container", x.inside},
		{"Kill the plugin's process", x.kill},
		{"A hook that changes a message, and one that blocks it", x.hooks},
		{"Kill a plugin with a background service", x.services},
		{"Kill ocmt itself, and start it again", x.takeOver},
		{"A connection that is denied, the grant, and the connection", x.network},
		{"The audit log of all this, and a copy with one byte changed", x.audit},
		{"Flip one byte in the sealed payload of a second copy", x.tamper},
	} {
		x.say("\n== %s\n", step.title)
		if err := step.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", strings.ToLower(step.title), err)
		}
	}
	x.say("\n== Uninstall, stop, and see what is left\n")
	running = false
	if err := x.stop(ctx); err != nil {
		return err
	}
	x.say("\nEvery step held, in %.0f s.\n", time.Since(start).Seconds())
	return nil
}

// takeDown uninstalls the plugins that are there, and stops the daemon: an
// ordinary user cannot remove the files of a plugin's uid in any other way.
func takeDown(d *harness.Daemon) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	const notFound = 3
	var err error
	for _, id := range []string{pluginID, seedPlugin, registerPlugin} {
		if res := d.Run(ctx, "plugins", "uninstall", id); res.Code != 0 && res.Code != notFound {
			err = errors.Join(err, fmt.Errorf("cannot uninstall: %s", res.Stderr))
		}
	}
	return errors.Join(err, d.Stop())
}

func (x *demo) say(format string, args ...any) { fmt.Fprintf(x.out, format, args...) }

// ocmt runs a command, shows it with its output, and fails unless it ended
// with the wanted code.
func (x *demo) ocmt(ctx context.Context, d *harness.Daemon, want int, args ...string) (string, error) {
	x.say("$ ocmt %s\n", strings.Join(quote(args), " "))
	res := d.Run(ctx, args...)
	text := strings.TrimSpace(string(res.Stdout) + string(res.Stderr))
	for line := range strings.Lines(text) {
		x.say("  %s\n", strings.TrimRight(line, "\n"))
	}
	if res.Code != want {
		return text, fmt.Errorf("ocmt %s ended with %d, want %d\ndaemon log:\n%s", args[0], res.Code, want, d.Log())
	}
	return text, nil
}

func quote(args []string) []string {
	quoted := make([]string, len(args))
	for i, a := range args {
		if strings.ContainsAny(a, " {\"") {
			a = "'" + a + "'"
		}
		quoted[i] = a
	}
	return quoted
}

func (x *demo) install(ctx context.Context) error {
	if _, err := x.ocmt(ctx, x.d, 0, "plugins", "install", spec, "--yes"); err != nil {
		return err
	}
	_, err := x.ocmt(ctx, x.d, 0, "status")
	return err
}

func (x *demo) call(ctx context.Context) error {
	got, err := x.ocmt(ctx, x.d, 0, "tools", "call", pluginID, "kitchen_sink_search", "--params", `{"query":"openclaw"}`)
	if err != nil {
		return err
	}
	if !strings.Contains(got, "ks_search_deb06166") {
		return errors.New("the answer does not hold ks_search_deb06166")
	}
	return nil
}

// look is a program for the container's own Node: it reports what the
// process there can see and reach.
const look = `
const fs = require("node:fs"), net = require("node:net"), os = require("node:os");
const [file, port] = process.argv.slice(-2);
const read = (f) => { try { fs.readFileSync(f); return "READ"; } catch (e) { return e.code; } };
const status = Object.fromEntries(fs.readFileSync("/proc/self/status", "utf8").split("\n").map((l) => l.split(":\t")));
const socket = net.connect({ host: "127.0.0.1", port: Number(port) });
const done = (connect) => console.log(JSON.stringify({
  interfaces: Object.keys(os.networkInterfaces()), routes: fs.readFileSync("/proc/net/route", "utf8").trim().split("\n").length - 1,
  connect, file: read(file), capabilities: status.CapBnd, noNewPrivs: status.NoNewPrivs, seccomp: status.Seccomp, uid: process.getuid(),
}));
socket.on("connect", () => done("CONNECTED")).on("error", (e) => done(e.code));`

func (x *demo) inside(ctx context.Context) error {
	secret := filepath.Join(x.dir, "secret")
	if err := os.WriteFile(secret, []byte("a host file"), 0o644); err != nil { // readable by all: only the sandbox keeps it away
		return err
	}
	decoy, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer decoy.Close()
	_, port, _ := net.SplitHostPort(decoy.Addr().String())
	container, err := x.d.Container(ctx, "default", pluginID)
	if err != nil {
		return err
	}
	x.say("$ %s node -e '(look around)' %s %s\n", x.exec(container), secret, port)
	out, err := x.d.Engine().Exec(ctx, container, "/usr/bin/node", "-e", look, "--", secret, port)
	if err != nil {
		return err
	}
	var seen struct {
		Interfaces   []string
		Routes       int
		Connect      string
		File         string
		Capabilities string
		NoNewPrivs   string
		Seccomp      string
		UID          int
	}
	if err := json.Unmarshal([]byte(out), &seen); err != nil {
		return err
	}
	x.say("  network interfaces: %v, routes: %d\n", seen.Interfaces, seen.Routes)
	x.say("  connect to a listener on the host's loopback: %s\n", seen.Connect)
	x.say("  read a host file that every user may read: %s\n", seen.File)
	x.say("  capabilities: %s, no-new-privileges: %s, seccomp mode: %s, uid: %d\n", seen.Capabilities, seen.NoNewPrivs, seen.Seccomp, seen.UID)
	switch {
	case len(seen.Interfaces) > 1 || len(seen.Interfaces) == 1 && seen.Interfaces[0] != "lo" || seen.Routes != 0:
		return errors.New("the container has a network")
	case seen.Connect != "ECONNREFUSED":
		return errors.New("the container reached the host's loopback")
	case seen.File != "ENOENT":
		return errors.New("the container sees a host file")
	case strings.Trim(seen.Capabilities, "0") != "" || seen.NoNewPrivs != "1" || seen.Seccomp != "2" || seen.UID == 0:
		return errors.New("the container has rights")
	}
	return nil
}

// exec is the engine's command that runs a program in a container.
func (x *demo) exec(container string) string {
	if x.d.Engine().Name() == "containerd" {
		return "ctr -n ocmt tasks exec --exec-id demo " + container
	}
	return fmt.Sprintf("docker exec %.12s", container)
}

// killRunner ends the runner from within its container, which an ordinary
// user of the engine may do as well.
const killRunner = `
const fs = require("node:fs");
for (const pid of fs.readdirSync("/proc").filter((n) => /^[0-9]+$/.test(n) && n !== "1"))
  try {
    if (fs.readFileSync("/proc/" + pid + "/cmdline", "utf8").includes("/ocmt/runner.js")) process.kill(Number(pid), "SIGKILL");
  } catch {}`

func (x *demo) kill(ctx context.Context) error {
	container, err := x.d.Container(ctx, "default", pluginID)
	if err != nil {
		return err
	}
	before, err := x.state(ctx)
	if err != nil {
		return err
	}
	x.say("$ %s node -e '(kill -9 the runner)'\n", x.exec(container))
	// The exec itself may be cut off: its container ends under it.
	_, _ = x.d.Engine().Exec(ctx, container, "/usr/bin/node", "-e", killRunner)
	start := time.Now()
	for {
		now, err := x.state(ctx)
		if err != nil {
			return err
		}
		if now.Generation > before.Generation && now.State == "running" {
			x.say("  ready again after %d ms (generation %d -> %d)\n", time.Since(start).Milliseconds(), before.Generation, now.Generation)
			return x.call(ctx)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

type pluginState struct {
	State      string `json:"state"`
	Generation uint64 `json:"generation"`
	Digest     string `json:"digest"`
}

func (x *demo) state(ctx context.Context) (pluginState, error) {
	var s pluginState
	return s, x.d.JSON(ctx, &s, "plugins", "info", pluginID)
}

func (x *demo) tamper(ctx context.Context) (err error) {
	second, err := harness.Start(ctx, filepath.Join(x.dir, "second"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, takeDown(second)) }()
	for _, args := range [][]string{{"plugins", "install", spec, "--yes"}, {"plugins", "disable", pluginID}} {
		if _, err := x.ocmt(ctx, second, 0, args...); err != nil {
			return err
		}
	}
	sealed, err := harness.FlipByte(ctx, second.Home)
	if err != nil {
		return err
	}
	x.say("flipped a byte of %s\n", filepath.Base(sealed))
	if _, err := x.ocmt(ctx, second, 1, "plugins", "verify", pluginID); err != nil {
		return err
	}
	text, err := x.ocmt(ctx, second, 1, "plugins", "enable", pluginID)
	if err != nil {
		return err
	}
	if !strings.Contains(text, "quarantine") {
		return errors.New("the refusal does not say that the plugin is in quarantine")
	}
	if _, err := second.Container(ctx, "default", pluginID); err == nil {
		return errors.New("the tampered plugin runs")
	}
	_, err = x.ocmt(ctx, second, 0, "plugins", "uninstall", pluginID)
	return err
}

func (x *demo) stop(ctx context.Context) error {
	for _, id := range []string{pluginID, seedPlugin, registerPlugin} {
		if _, err := x.ocmt(ctx, x.d, 0, "plugins", "uninstall", id); err != nil {
			return errors.Join(err, takeDown(x.d))
		}
	}
	if err := x.d.Stop(); err != nil {
		return err
	}
	left, err := x.d.Leftovers(ctx)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("left behind: %s", strings.Join(left, ", "))
	}
	x.say("no container, volume, mount, socket or process is left\n")
	return nil
}
