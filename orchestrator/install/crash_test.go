package install

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/orchestrator/install/seal"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// The test binary plays a daemon that is killed: crashHome names its home,
// crashAt the place at which it kills itself, crashDo what it does and
// crashForm the form of its payloads.
const (
	crashHome = "INSTALL_TEST_CRASH_HOME"
	crashAt   = "INSTALL_TEST_CRASH_AT"
	crashDo   = "INSTALL_TEST_CRASH_DO"
	crashForm = "INSTALL_TEST_CRASH_FORM"
)

func TestMain(m *testing.M) {
	if home := os.Getenv(crashHome); home != "" {
		if err := dieAt(home, os.Getenv(crashForm), os.Getenv(crashDo), os.Getenv(crashAt)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// dieAt installs or uninstalls, and kills the process at a place.
func dieAt(home, form, do, at string) error {
	n, err := strconv.Atoi(at)
	if err != nil {
		return err
	}
	reach := func(string) error {
		if n--; n == 0 {
			return unix.Kill(os.Getpid(), unix.SIGKILL)
		}
		return nil
	}
	b := installer(home, form, reach)
	if do == "uninstall" {
		return b.Uninstall(context.Background(), plugin.Key{Tenant: "default", ID: "p"}, false)
	}
	req := upload(pkg("p", do))
	req.Replace = true
	req.Progress = func(p Progress) { reach(p.Step) }
	_, err = b.Install(context.Background(), req)
	return err
}

// TestKill kills a daemon at every place of an install, an update and an
// uninstall. After the next one recovered, all is as it was before or all is
// done.
func TestKill(t *testing.T) {
	for _, form := range []string{plugin.FormEROFS, plugin.FormTree} {
		for _, tt := range []struct{ before, do, name string }{{"", "1.0.0", "install"}, {"1.0.0", "2.0.0", "update"}, {"1.0.0", "uninstall", "uninstall"}} {
			t.Run("form="+form+"/do="+tt.name, func(t *testing.T) {
				kills := 0
				for at := 1; killAndRecover(t, form, tt.before, tt.do, at); at++ {
					kills++
				}
				if least := map[string]int{"install": 10, "update": 10, "uninstall": 4}[tt.name]; kills < least {
					t.Errorf("killed at %d places, want at least %d", kills, least)
				}
			})
		}
	}
}

// killAndRecover reports whether there was a place number at.
func killAndRecover(t *testing.T, form, version, do string, at int) bool {
	t.Helper()
	ctx, b := context.Background(), installer(t.TempDir(), form, nil)
	defer empty(t, b.StoreDir)
	if version != "" {
		if _, err := b.Install(ctx, upload(pkg("p", version))); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{b.StoreDir, b.StagingDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	before := b.snapshot(t)
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), crashHome+"="+b.home, crashAt+"="+strconv.Itoa(at), crashDo+"="+do, crashForm+"="+form)
	out, err := cmd.CombinedOutput()
	killed := cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled()
	if err != nil && !killed {
		t.Fatalf("at %d: %v: %s", at, err, out)
	}

	next := installer(b.home, form, nil)
	if err := next.Recover(ctx); err != nil {
		t.Fatal(err)
	}
	all, err := next.records.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	after := b.snapshot(t)
	done := (do == "uninstall" && len(all) == 0) || (len(all) == 1 && all[0].Descriptor.Version == do)
	if !done {
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("killed at %d, and recovered: (-before +after)\n%s", at, diff)
		}
	} else {
		checkDone(t, next, all)
	}
	if !killed && !done {
		t.Errorf("%s was neither killed nor done", do)
	}
	return killed
}

// checkDone compares the home with its records: the payloads of these, whole,
// and nothing else.
func checkDone(t *testing.T, b *bench, all []plugin.Installed) {
	t.Helper()
	objects, err := seal.List(b.StoreDir)
	if err != nil || len(objects) != len(all) {
		t.Errorf("%d objects for %d records, %v", len(objects), len(all), err)
	}
	for _, i := range all {
		s, err := seal.Open(context.Background(), b.StoreDir, i.Payload)
		if err != nil {
			t.Error(err)
			continue
		}
		s.Close()
	}
	if left, _ := filepath.Glob(filepath.Join(b.home, "st*", "*")); len(left) != len(all) || strings.Contains(strings.Join(left, " "), "staging") {
		t.Errorf("store and staging hold %v for %d records", left, len(all))
	}
}
