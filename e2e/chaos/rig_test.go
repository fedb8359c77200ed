package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ocmt/ocmt/e2e/harness"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
	"github.com/ocmt/ocmt/orchestrator/home"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

const tenant = plugin.DefaultTenant

// pluginSource is the one plugin that everything is tried on, under many ids.
// who tells one process from the next; wait is the call that is in flight;
// doom makes this and every later process of the plugin die a second after it
// started.
const pluginSource = `const fs = require("node:fs");
const born = Math.random().toString(36).slice(2);
const object = (properties) => ({ type: "object", properties });
exports.tools = [
  { name: "who", description: "", parameters: object({}), execute: async () => ({ born }) },
  { name: "wait", description: "", parameters: object({ ms: { type: "number" } }),
    execute: async ({ ms }) => { await new Promise((done) => setTimeout(done, ms)); return { born }; } },
  { name: "doom", description: "", parameters: object({}),
    execute: async () => { fs.writeFileSync("/state/doomed", ""); die(); return {}; } },
];
const die = () => setTimeout(() => process.exit(9), 1000);
if (fs.existsSync("/state/doomed")) die();
`

// rig is a daemon over a home of its own, on an engine of the suite's.
type rig struct {
	suite   *suite
	engine  engine
	home    string
	paths   home.Home
	homeID  string
	daemon  *process
	client  *client.Client
	plugins []string // that are enabled
	off     string   // one that is disabled and must stay so
	census  *census
	guard   *guard

	restarts map[string]int // that there must have been
	maybe    map[string]int // that there may have been besides
	idle     usage          // of the daemon with all its plugins, before the faults
}

// newRig starts a daemon and installs n plugins, and one more that is
// disabled. Dir takes the home. The test's end stops it in order and expects
// that nothing is left.
func (s *suite) newRig(t *testing.T, e engine, dir string, n int) *rig {
	t.Helper()
	if err := os.MkdirAll(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	path, err := os.MkdirTemp(dir, "home-")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{suite: s, engine: e, home: path, restarts: map[string]int{}, maybe: map[string]int{}, census: newCensus(path)}
	if r.paths, err = home.Open(path); err != nil {
		t.Fatal(err)
	}
	r.client = client.New(r.paths.AdminSocket())
	if err := r.serve(s.ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.tearDown(t) })
	if err := r.answer(s.ctx); err != nil {
		t.Fatal(err)
	}
	r.off = "off"
	if err := r.install(s.ctx, append(names(0, n), r.off)...); err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.Disable(s.ctx, tenant, r.off); err != nil {
		t.Fatal(err)
	}
	r.plugins = slices.DeleteFunc(r.plugins, func(id string) bool { return id == r.off })
	r.guard = newGuard(r.census)
	if err := r.warm(s.ctx); err != nil {
		t.Fatal(err)
	}
	return r
}

func names(from, to int) []string {
	var list []string
	for i := from; i < to; i++ {
		list = append(list, fmt.Sprintf("p%02d", i))
	}
	return list
}

// serve starts the daemon, without waiting for an answer.
func (r *rig) serve(context.Context) error {
	bin, err := harness.Binary()
	if err != nil {
		return err
	}
	args := []string{"serve", "--home", r.home, "--engine", r.engine.Name()}
	p, err := spawn(filepath.Join(r.suite.dir, filepath.Base(r.home)+".log"), r.engine.env(), bin, args...)
	if err == nil {
		r.daemon = p
	}
	return err
}

// answer waits until the daemon answers.
func (r *rig) answer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		status, err := r.client.Status(ctx, tenant)
		if err == nil {
			r.homeID = status.HomeID
			return nil
		}
		select {
		case <-r.daemon.exited:
			return fmt.Errorf("ocmt serve ended:\n%s", r.daemon.tail())
		case <-ctx.Done():
			return fmt.Errorf("ocmt serve does not answer: %w\n%s", err, r.daemon.tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ocmt runs a command against the daemon, for at most a minute.
func (r *rig) ocmt(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	bin, err := harness.Binary()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, bin, append(args, "--home", r.home)...)
	cmd.Env = append(os.Environ(), r.engine.env()...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("ocmt %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// install installs the plugin under the ids, two at a time.
func (r *rig) install(ctx context.Context, ids ...string) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2)
	var mu sync.Mutex
	for _, id := range ids {
		g.Go(func() error {
			src := filepath.Join(r.suite.dir, "src", id)
			manifest := fmt.Sprintf(`{"name": %q, "version": "1.0.0", "main": "index.js"}`, id)
			err := errors.Join(os.MkdirAll(src, 0o755),
				os.WriteFile(filepath.Join(src, "package.json"), []byte(manifest), 0o644),
				os.WriteFile(filepath.Join(src, "index.js"), []byte(pluginSource), 0o644))
			if err != nil {
				return err
			}
			if _, err := r.ocmt(ctx, "plugins", "install", src); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			r.plugins = append(r.plugins, id)
			return nil
		})
	}
	err := g.Wait()
	slices.Sort(r.plugins)
	return err
}

// warm has every plugin answer once and notes what the daemon then holds.
func (r *rig) warm(ctx context.Context) error {
	for _, id := range r.plugins {
		if _, err := r.who(ctx, id, 30*time.Second); err != nil {
			return err
		}
	}
	r.client.Close()
	r.idle = usageOf(r.daemon.pid())
	return nil
}

// others are the plugins besides one.
func (r *rig) others(id string) []string {
	return slices.DeleteFunc(slices.Clone(r.plugins), func(p string) bool { return p == id })
}

// who calls a plugin and returns which of its processes answered.
func (r *rig) who(ctx context.Context, id string, within time.Duration) (string, error) {
	return r.call(ctx, id, "who", `{}`, within)
}

func (r *rig) call(ctx context.Context, id, tool, params string, within time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, within+time.Second) // its own end is the daemon's to keep
	defer cancel()
	res, err := r.client.Call(ctx, tenant, id, tool, v1.CallRequest{Params: json.RawMessage(params), TimeoutMillis: within.Milliseconds()})
	if err != nil {
		return "", err
	}
	var got struct{ Born string }
	err = json.Unmarshal(res.Result, &got)
	return got.Born, err
}

// born returns which process of each plugin answers now.
func (r *rig) born(ctx context.Context) (map[string]string, error) {
	all := map[string]string{}
	for _, id := range r.plugins {
		b, err := r.who(ctx, id, 10*time.Second)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", id, err)
		}
		all[id] = b
	}
	return all, nil
}

// list returns the plugins by id, as the API tells of them.
func (r *rig) list(ctx context.Context) (map[string]v1.Plugin, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	plugins, err := r.client.Plugins(ctx, tenant)
	if err != nil {
		return nil, err
	}
	all := map[string]v1.Plugin{}
	for _, p := range plugins {
		all[p.ID] = p
	}
	return all, nil
}

// containerOf returns the container of a plugin that runs, by the engine.
func (r *rig) containerOf(ctx context.Context, id string) (string, error) {
	list, err := r.engine.Containers(ctx, map[string]string{"ocmt.home": r.homeID, "ocmt.plugin": id}, true)
	if err != nil {
		return "", err
	}
	if len(list) != 1 {
		return "", fmt.Errorf("the engine runs %d containers of %s", len(list), id)
	}
	return list[0], nil
}

// tearDown stops the daemon in order, after which nothing may be left.
func (r *rig) tearDown(t *testing.T) {
	t.Helper()
	if r.guard != nil {
		r.guard.close()
	}
	r.client.Close()
	if !r.daemon.running() {
		return
	}
	if err := r.daemon.end(syscall.SIGTERM, 90*time.Second); err != nil {
		t.Error(err)
		_ = r.daemon.end(syscall.SIGKILL, 10*time.Second)
		return
	}
	if left := r.leftAfterStop(context.WithoutCancel(r.suite.ctx)); len(left) > 0 {
		t.Errorf("left behind by the stop: %s", strings.Join(left, ", "))
	}
	if t.Failed() {
		t.Logf("the daemon's last lines:\n%s", r.daemon.tail())
	}
}

// leftAfterStop lists what a daemon that ended in order left on the host.
func (r *rig) leftAfterStop(ctx context.Context) []string {
	left := r.unowned(ctx, nil)
	sockets, _ := filepath.Glob(filepath.Join(r.home, "ocmt", "run", "*.sock"))
	for _, path := range sockets {
		left = append(left, "socket "+path)
	}
	return left
}
