package e2e

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/e2e/harness"
)

// stubborn is a plugin that does not end easily.
const stubborn = "stubborn"

// TestNothingIsLeft follows by the host what belongs to containers: processes,
// those that outlive their parents included, cgroups, name spaces, files of the
// engine. Whichever way a plugin ends, all of it goes; and of an uninstalled
// plugin, or of a daemon that has stopped, the home's own files are all that
// there is.
func TestNothingIsLeft(t *testing.T) {
	need(t)
	temp := filepath.Join(filepath.Dir(newHome(t)), "tmp")
	if err := os.Mkdir(temp, 0o700); err != nil {
		t.Fatal(err)
	}
	home := newHome(t)
	d := serveWith(t, harness.Options{Home: home, Env: []string{"TMPDIR=" + temp}})
	stopped := false
	t.Cleanup(func() {
		if !stopped {
			stop(t, d)
		}
	})
	seen := harness.NewTraces(d)
	gone := func(how string) {
		t.Helper()
		var left []string
		defer func() {
			if t.Failed() {
				t.Logf("after %s: %s", how, strings.Join(left, "\n"))
			}
		}()
		eventually(t, 20*time.Second, "nothing is left after "+how, func() bool {
			left = seen.Left()
			return len(left) == 0
		})
	}
	// An install with a container for npm, and one of a plugin without.
	install(t, d, "register-esm")
	install(t, d, stubborn)
	run(t, d, 0, nil, "plugins", "uninstall", "register-esm")
	gone("an uninstall")
	for _, end := range []struct {
		how string
		do  func()
	}{
		{"a kill", func() { killed(t, d, stubborn) }},
		{"a restart", func() { run(t, d, 0, nil, "plugins", "restart", stubborn) }},
		{"a disable", func() { run(t, d, 0, nil, "plugins", "disable", stubborn) }},
	} {
		orphan(t, d)
		look(t, seen)
		end.do()
		gone(end.how)
	}
	run(t, d, 0, nil, "plugins", "enable", stubborn)
	orphan(t, d)
	look(t, seen)
	run(t, d, 0, nil, "plugins", "uninstall", stubborn)
	gone("the last uninstall")
	if diff := cmp.Diff(ownFiles(true), files(t, home)); diff != "" {
		t.Errorf("the home after the last uninstall (-want +got):\n%s", diff)
	}

	install(t, d, stubborn)
	orphan(t, d)
	look(t, seen)
	stopped = true
	stop(t, d)
	gone("the daemon's stop")
	kept := regexp.MustCompile(`^ocmt/(store|tenants/default/plugins/stubborn)/`) // of the plugin, which is installed
	if diff := cmp.Diff(ownFiles(false), slices.DeleteFunc(files(t, home), kept.MatchString)); diff != "" {
		t.Errorf("the home after the daemon's stop (-want +got):\n%s", diff)
	}
	if left, err := filepath.Glob(filepath.Join(temp, "*")); err != nil || len(left) > 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
}

// killed kills a plugin's container, and waits until the plugin is back.
func killed(t *testing.T, d *harness.Daemon, id string) {
	t.Helper()
	before := getInfo(t, d, id).Generation
	container, err := d.Container(t.Context(), tenant, id)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Engine().Kill(t.Context(), container); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "the plugin came back", func() bool {
		i := getInfo(t, d, id)
		return i.Generation > before && i.State == "running"
	})
}

// orphan has the plugin start a process that its parent leaves behind.
func orphan(t *testing.T, d *harness.Daemon) {
	t.Helper()
	var got struct{ PID int }
	call(t, d, &got, stubborn, "orphan", `{}`)
	if got.PID < 2 {
		t.Fatalf("the orphan's process id is %d", got.PID)
	}
}

// look notes what there is of the containers, and fails the test unless the
// orphan runs on in its own.
func look(t *testing.T, seen *harness.Traces) {
	t.Helper()
	found, err := seen.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if harness.RuntimeName() == "runsc" {
		return // which has a process table of its own
	}
	if orphans := slices.DeleteFunc(found, func(cmdline string) bool { return !strings.HasSuffix(cmdline, " orphan") }); len(orphans) != 1 {
		t.Fatalf("%d orphans run, want 1", len(orphans))
	}
}

// runtimes are programs that start OCI runtimes, of which a home keeps some.
var runtimes = regexp.MustCompile(`^ocmt/run/runtimes/[a-z]+-[0-9a-f]+$`)

// files lists what there is below a directory, but for runtimes.
func files(t *testing.T, dir string) []string {
	t.Helper()
	found := []string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && !runtimes.MatchString(path) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// ownFiles are the home's own: what is kept, and what a running daemon has
// besides.
func ownFiles(running bool) []string {
	list := []string{
		"config.json", "ocmt/audit/0001-000000000001.jsonl", "ocmt/audit/0001.checkpoints", "ocmt/audit/lock",
		"ocmt/keys/audit.head", "ocmt/keys/audit.hmac", "ocmt/keys/audit.key", "ocmt/keys/audit.pub", "ocmt/keys/secrets.key",
		"ocmt/run/lock", "ocmt/state.db",
	}
	if running {
		list = append(list, "ocmt/run/admin.sock", "ocmt/state.db-shm", "ocmt/state.db-wal", "ocmt/tenants/default/call.sock")
	}
	slices.Sort(list)
	return list
}

// readState returns a file of a plugin's state, empty if there is none: from
// where it is mounted, and else out of the image that it is kept in.
func readState(t *testing.T, d *harness.Daemon, id, name string) string {
	t.Helper()
	dir := filepath.Join(d.Home, "ocmt", "tenants", tenant, "plugins", id)
	text, err := os.ReadFile(filepath.Join(dir, "state", name))
	if errors.Is(err, fs.ErrNotExist) {
		text, err = exec.CommandContext(t.Context(), "debugfs", "-R", "cat /"+name, filepath.Join(dir, "state.img")).Output()
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// expectNotes gives the container a moment to let go of the state.
func expectNotes(t *testing.T, want string, notes func() string) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); notes() != want && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
	}
	if diff := cmp.Diff(want, notes()); diff != "" {
		t.Errorf("noted (-want +got):\n%s", diff)
	}
}

// TestStopOrder stops a plugin while it answers, and one that does not want to
// end: the call is answered, services are stopped in the reverse of their
// order, and only then come SIGTERM and, at the deadline, SIGKILL.
func TestStopOrder(t *testing.T) {
	d := start(t)
	install(t, d, stubborn)
	notes := func() string {
		return readState(t, d, stubborn, "notes")
	}
	serving := func() {
		t.Helper()
		eventually(t, 20*time.Second, "its services run", func() bool { return strings.HasSuffix(notes(), "start one\nstart two\n") })
	}
	serving()
	inFlight := make(chan harness.Result, 1)
	go func() {
		inFlight <- d.Run(context.WithoutCancel(t.Context()), "tools", "call", stubborn, "slow", "--params", `{"ms":1500}`)
	}()
	eventually(t, 10*time.Second, "the call has begun", func() bool { return strings.Contains(notes(), "slow begins") })
	run(t, d, 0, nil, "plugins", "disable", stubborn)
	if res := <-inFlight; res.Code != 0 || !strings.Contains(string(res.Stdout), "1500") {
		t.Errorf("the call in flight ended with %d: %s", res.Code, res.Stderr)
	}
	want := "start one\nstart two\nslow begins\nslow ends\nstop two\nstop one\n"
	expectNotes(t, want, notes)

	run(t, d, 0, nil, "plugins", "enable", stubborn)
	serving()
	call(t, d, new(any), stubborn, "deafen", `{}`)
	const grace, margin = 10 * time.Second, 2 * time.Second
	begun := time.Now()
	run(t, d, 0, nil, "plugins", "disable", stubborn)
	if took := time.Since(begun); took > grace+margin {
		t.Errorf("it took %s to end what hears nothing, want %s after a grace of %s at most", took, margin, grace)
	}
	want += "start one\nstart two\nstop two\nstop one\n"
	expectNotes(t, want, notes)
	if exit := getInfo(t, d, stubborn).LastExit; exit.Code != 137 {
		t.Errorf("the last exit is %+v, want that of SIGKILL", exit)
	}
}
