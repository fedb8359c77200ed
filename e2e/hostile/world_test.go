package hostile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
	"github.com/ocmt/ocmt/orchestrator/fault"

	"github.com/ocmt/ocmt/e2e/harness"
)

// tenant is whose the attackers and the neighbours are.
const tenant = "default"

// What the daemon may hold when a group is over, whatever the attackers did,
// beyond what it held before them.
const (
	maxFiles  = 64
	maxMemory = 256 << 10 // kB, resident and anonymous
)

// need skips the test, with a reason, where the engine or the built program is
// missing; if E2E_REQUIRE names the engine, that is a failure.
func need(t *testing.T) {
	t.Helper()
	engine, err := harness.Chosen()
	if err != nil {
		t.Fatal(err)
	}
	if _, err = harness.Binary(); err == nil {
		err = engine.Answers(t.Context())
	}
	switch {
	case err == nil:
	case slices.Contains(strings.Split(os.Getenv("E2E_REQUIRE"), ","), engine.Name()):
		t.Fatal(err)
	default:
		t.Skip(err)
	}
}

// rig is what the attacks of a group share: a daemon and a neighbour.
type rig struct {
	*programs
	daemon *harness.Daemon
	client *client.Client // with the operator's rights
	victim *victim
	secret string // in the daemon's environment and in every decoy: no attacker learns it
	files  int    // that the daemon held open before the attacks

	web *internet // of groups that are online
}

func newRig(t *testing.T, g *group, p *programs) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	secret := "the-host's-secret-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	r := &rig{programs: p, secret: secret}
	start := harness.StartWith
	if g.online {
		r.web = newInternet(t)
		start = r.web.start
	}
	home := newHome(t)
	if g.config != "" {
		if err := errors.Join(os.Mkdir(home, 0o700), os.WriteFile(filepath.Join(home, "config.json"), []byte(g.config), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	d, err := start(ctx, harness.Options{Home: home, Args: g.serve, Env: []string{"HOSTILE_SECRET=" + secret}})
	if err != nil {
		t.Fatal(err)
	}
	r.daemon, r.client = d, client.New(filepath.Join(d.Home, "ocmt", "run", "admin.sock"))
	t.Cleanup(func() { r.end(t, g) })
	r.victim = newVictim(t, r)
	r.files = openFiles(t, d.PID())
	return r
}

// end holds the daemon to its bounds, and stops it. Nothing is left then.
func (r *rig) end(t *testing.T, g *group) {
	if g.after != nil {
		g.after(t, r)
	}
	if res := r.daemon.Run(context.WithoutCancel(t.Context()), "audit", "verify"); res.Code != 0 {
		t.Errorf("the audit log does not verify: %s%s", res.Stdout, res.Stderr)
	}
	r.client.Close()
	if !within(10*time.Second, func() bool { return openFiles(t, r.daemon.PID()) <= r.files+maxFiles }) {
		t.Errorf("the daemon holds %d open files, and held %d before the attacks", openFiles(t, r.daemon.PID()), r.files)
	}
	if kb := memory(t, r.daemon.PID()); kb > maxMemory {
		t.Errorf("the daemon holds %d kB", kb)
	}
	if err := r.daemon.Stop(); err != nil {
		t.Error(err)
	}
	var left []string
	if !within(5*time.Second, func() bool {
		var err error
		left, err = r.daemon.Leftovers(context.WithoutCancel(t.Context()))
		return err == nil && len(left) == 0
	}) {
		t.Errorf("left behind: %s", strings.Join(left, ", "))
	}
	if found := regexp.MustCompile(`panic|goroutine \d+ \[|fatal error`).FindString(r.daemon.Log()); found != "" {
		t.Errorf("the daemon's log holds %q", found)
	}
	if t.Failed() {
		t.Logf("the daemon's log:\n%s", r.daemon.Log())
	}
}

// newHome returns a home that is removed with whatever is immutable in it.
func newHome(t *testing.T) string {
	t.Helper()
	return filepath.Join(newDir(t), "home")
}

// newDir returns a directory that every user of the host may enter.
func newDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ocmt-hostile-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if os.Geteuid() == 0 {
			_ = exec.Command("chattr", "-R", "-f", "-i", dir).Run() // a file system may have no flags
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// run runs a command that must succeed, and returns its output.
func (r *rig) run(t *testing.T, args ...string) string {
	t.Helper()
	res := r.daemon.Run(t.Context(), args...)
	if res.Code != 0 {
		t.Fatalf("ocmt %s: exit code %d:\n%s%s", strings.Join(args, " "), res.Code, res.Stdout, res.Stderr)
	}
	return string(res.Stdout)
}

// invoke calls a tool, and returns its result as JSON.
func (r *rig) invoke(ctx context.Context, id, tool, params string) (json.RawMessage, error) {
	result, err := r.client.Call(ctx, tenant, id, tool, v1.CallRequest{Params: json.RawMessage(params)})
	return result.Result, err
}

// world is what an attack's functions see.
type world struct {
	*rig
	id     string            // the attacking plugin's
	inside string            // the attack's
	dir    string            // on the host, for this attack alone; every user may enter
	vars   map[string]string // for "{NAME}" in grants and parameters
	answer map[string]string // what became of each attempt
	result json.RawMessage   // what the tool returned, as it came
}

func newWorld(t *testing.T, r *rig, a *attack) *world {
	t.Helper()
	w := &world{rig: r, id: "hostile-" + a.name, inside: a.inside, dir: newDir(t)}
	w.vars = map[string]string{"dir": w.dir, "home": r.daemon.Home}
	return w
}

// fill puts variables in.
func (w *world) fill(args []string) []string {
	var pairs []string
	for name, value := range w.vars {
		pairs = append(pairs, "{"+name+"}", value)
	}
	filled := make([]string, len(args))
	for i, arg := range args {
		filled[i] = strings.NewReplacer(pairs...).Replace(arg)
	}
	return filled
}

// general is the opposite of fill, for names of attempts.
func (w *world) general(name string) string {
	vars := slices.SortedFunc(maps.Keys(w.vars), func(a, b string) int { return len(w.vars[b]) - len(w.vars[a]) })
	for _, v := range vars {
		name = strings.ReplaceAll(name, w.vars[v], "{"+v+"}")
	}
	return name
}

// call makes the attack and notes what became of it.
func (w *world) call(t *testing.T, tool, params string) {
	t.Helper()
	result, err := w.invoke(t.Context(), w.id, tool, params)
	w.result, w.answer = result, map[string]string{}
	var object map[string]any
	switch {
	case err != nil:
		w.answer["call"] = fault.Of(err).Code + ": " + err.Error()
	case json.Unmarshal(result, &object) != nil:
		w.answer["answer"] = string(result)
	}
	for attempt, became := range object {
		attempt = w.general(attempt)
		if text, ok := became.(string); ok {
			w.answer[attempt] = text
		} else {
			w.answer[attempt] = string(mustJSON(t, became))
		}
	}
}

// audited returns the records of the attack's plugin, the oldest first.
func (w *world) audited(t *testing.T) []map[string]any {
	t.Helper()
	return w.auditedOf(t, w.id)
}

// auditedOf returns the records of a plugin; of none, those of the host.
func (r *rig) auditedOf(t *testing.T, plugin string) []map[string]any {
	t.Helper()
	var found []map[string]any
	for line := range strings.Lines(r.run(t, "audit", "tail", "-n", "0", "--json")) {
		var rec map[string]any
		if err := json.Unmarshal([]byte(line), &rec); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if of, _ := rec["plugin"].(string); of == plugin {
			found = append(found, rec)
		}
	}
	return found
}

// plugin returns what the daemon says of the attack's plugin.
func (w *world) plugin(t *testing.T) v1.PluginDetail {
	t.Helper()
	detail, err := w.client.Plugin(t.Context(), tenant, w.id)
	if err != nil {
		t.Fatal(err)
	}
	return detail
}

// state is the directory that the host has for the /state of the attack.
func (w *world) state() string {
	return filepath.Join(w.daemon.Home, "ocmt", "tenants", tenant, "plugins", w.id)
}

// victim is a neighbour that minds its own business, and remembers.
type victim struct{ token, boot string }

const victimID = "victim"

func newVictim(t *testing.T, r *rig) *victim {
	t.Helper()
	r.run(t, "plugins", "install", r.pack(t, victimID, newDir(t), false))
	v := &victim{token: "token-" + strconv.Itoa(r.daemon.PID())}
	if _, err := r.invoke(t.Context(), victimID, "keep", `{"text":"`+v.token+`"}`); err != nil {
		t.Fatal(err)
	}
	got, err := v.look(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	v.boot = got.Boot
	return v
}

// look asks the neighbour for what it knows.
func (v *victim) look(ctx context.Context, r *rig) (found struct{ Text, Boot string }, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	result, err := r.invoke(ctx, victimID, "look", `{}`)
	if err != nil {
		return found, err
	}
	return found, json.Unmarshal(result, &found)
}

// check has the neighbour answer, in the process of before and with its state.
func (v *victim) check(t *testing.T, r *rig) {
	t.Helper()
	got, err := v.look(t.Context(), r)
	if err != nil || got.Text != v.token || got.Boot != v.boot {
		t.Errorf("the neighbour has %+v, %v, want %+v", got, err, *v)
	}
}

// within asks again until ok, or until the time is up.
func within(limit time.Duration, ok func() bool) bool {
	deadline := time.After(limit)
	for !ok() {
		select {
		case <-deadline:
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
	return true
}

// ownerOf returns the user that a file belongs to.
func ownerOf(t *testing.T, path string) int {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatalf("%s has no owner", path)
	}
	return int(st.Uid)
}

func openFiles(t *testing.T, pid int) int {
	t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// memory is a process's anonymous resident memory in kB.
func memory(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, ok := strings.Cut(string(status), "RssAnon:")
	if err != nil || !ok {
		t.Fatal(errors.Join(err, errors.New("no RssAnon")))
	}
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kb
}
