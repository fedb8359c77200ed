package e2e

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ocmt/ocmt/e2e/harness"
)

// copied returns a directory of the test's own with one of our plugins.
func copied(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	if err := os.CopyFS(dir, os.DirFS(fixture(t, name))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestReinstallEndsQuarantine alters the payload of a running plugin: it is
// ended, no reset brings it back, and its own files do.
func TestReinstallEndsQuarantine(t *testing.T) {
	d := start(t)
	dir := copied(t, "register-cjs")
	run(t, d, 0, nil, "plugins", "install", dir)
	run(t, d, 0, nil, "plugins", "grant", "register-cjs", "env", "TZ")
	var got struct{ N int }
	call(t, d, &got, "register-cjs", "count", `{}`)
	before := getInfo(t, d, "register-cjs")
	if _, err := harness.FlipByte(t.Context(), d.Home); err != nil {
		t.Fatal(err)
	}
	run(t, d, 1, []string{"was changed after it was installed", "ocmt plugins reinstall"}, "plugins", "verify", "register-cjs")
	eventually(t, 30*time.Second, "nothing of it runs", func() bool {
		_, err := d.Container(t.Context(), "default", "register-cjs")
		return err != nil && getInfo(t, d, "register-cjs").State == "quarantined"
	})
	run(t, d, 0, []string{"quarantined", "to start it again: ocmt plugins reinstall register-cjs"}, "status")
	run(t, d, 1, []string{"cannot be reset", "ocmt plugins reinstall register-cjs"}, "plugins", "reset", "register-cjs")

	moved := dir + ".moved"
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	run(t, d, 3, []string{"not on this machine", "--keep-state"}, "plugins", "reinstall", "register-cjs")
	if err := os.CopyFS(dir, os.DirFS(fixture(t, "seed-esm"))); err != nil {
		t.Fatal(err)
	}
	run(t, d, 1, []string{"is now the plugin seed-esm"}, "plugins", "reinstall", "register-cjs")
	if state := getInfo(t, d, "register-cjs").State; state != "quarantined" {
		t.Errorf("after what was refused it is %s", state)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(moved, dir); err != nil {
		t.Fatal(err)
	}
	run(t, d, 0, []string{"the same files, running"}, "plugins", "reinstall", "register-cjs")
	call(t, d, &got, "register-cjs", "count", `{}`)
	if got.N != 2 {
		t.Errorf("count %d, want 2: the state was lost", got.N)
	}
	if after := getInfo(t, d, "register-cjs"); after.Digest != before.Digest || after.State != "running" {
		t.Errorf("got %+v of %+v", after, before)
	}
	run(t, d, 0, []string{"TZ"}, "plugins", "permissions", "register-cjs")
	run(t, d, 0, []string{"is unchanged"}, "plugins", "verify", "register-cjs")

	// What was edited meanwhile is another version of the same.
	edit(t, filepath.Join(dir, "package.json"), `"version": "1`, `"version": "2`)
	run(t, d, 0, []string{"other files than before, running"}, "plugins", "reinstall", "register-cjs")
	if after := getInfo(t, d, "register-cjs"); after.Digest == before.Digest {
		t.Error("the edited files were not taken")
	}
	if objects, _ := filepath.Glob(filepath.Join(d.Home, "ocmt", "store", "*")); len(objects) != 1 {
		t.Errorf("the store holds %v", objects)
	}
}

// TestResetEndsCrashloop has a plugin end again and again until it is given up,
// and brings it back.
func TestResetEndsCrashloop(t *testing.T) {
	d := start(t)
	install(t, d, "faulty")
	for range 10 { // as often as short runs are forgiven, and some more
		res := d.Run(t.Context(), "tools", "call", "faulty", "throw_in_timer", "--timeout", "30s")
		if getInfo(t, d, "faulty").State == "crashlooped" {
			break
		}
		if res.Code == 5 {
			check(t, res, 5, []string{"ended while", "try again"}, "tools call faulty")
		}
	}
	looped := getInfo(t, d, "faulty")
	if looped.State != "crashlooped" || looped.LastExit.Class != "error" {
		t.Fatalf("got %+v, want it given up", looped)
	}
	for _, args := range [][]string{{"status"}, {"plugins", "info", "faulty"}} {
		run(t, d, 0, []string{"crashlooped", "error", "faulty printed before it ended:", "thrown in a timer", "to start it again: ocmt plugins reset faulty"}, args...)
	}
	run(t, d, 7, []string{"ended too often"}, "tools", "call", "faulty", "fine", "--timeout", "5s")
	run(t, d, 0, []string{"faulty is running"}, "plugins", "reset", "faulty")
	var fine struct{ PID int }
	call(t, d, &fine, "faulty", "fine", `{}`)
	if i := getInfo(t, d, "faulty"); i.State != "running" || i.Generation <= looped.Generation {
		t.Errorf("after the reset: %+v", i)
	}
}

// TestStatusWatchReconnects watches the status over a restart of the daemon.
func TestStatusWatchReconnects(t *testing.T) {
	need(t)
	home := newHome(t)
	d := serve(t, home)
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), bin, "status", "--watch", "--home", home)
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	shown, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reads(t, bufio.NewScanner(shown), "no plugins are installed")
	if err := d.Stop(); err != nil {
		t.Error(err)
	}
	lines := bufio.NewScanner(said)
	reads(t, lines, "the daemon does not answer; waiting for it")
	d = serve(t, home)
	reads(t, lines, "the daemon was started again at")
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("an interrupt ended it with %v, want exit code 0", err)
	}
	stop(t, d)
}

// reads reads lines up to one that holds text.
func reads(t *testing.T, lines *bufio.Scanner, text string) {
	t.Helper()
	for lines.Scan() {
		if strings.Contains(lines.Text(), text) {
			return
		}
	}
	t.Fatalf("%q did not come", text)
}
