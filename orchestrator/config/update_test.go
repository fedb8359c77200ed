package config

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// childEnv turns the test binary into a process that updates a file.
const childEnv = "OCMT_CONFIG_TEST_WRITER"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		for n := 0; ; n++ {
			id := fmt.Sprintf("%s-%d", os.Getenv(childEnv+"_NAME"), n)
			if err := Update(context.Background(), path, func(e *Edit) error { return e.EnsureEntry(id) }); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			fmt.Println(id)
		}
	}
	os.Exit(m.Run())
}

func entries(t *testing.T, path string) map[string]Entry {
	t.Helper()
	f, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return f.entries
}

func TestUpdateMakesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tenants", "acme", "config.json")
	if err := Update(t.Context(), path, func(e *Edit) error { return e.RemoveEntry("x") }); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an update without effect made the file: %v", err)
	}
	if err := Update(t.Context(), path, func(e *Edit) error { return e.SetEnabled("x", true) }); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
	if names, _ := os.ReadDir(filepath.Dir(path)); len(names) != 1 {
		t.Errorf("left in the directory: %v", names)
	}
}

func TestUpdateKeepsModeAndOwner(t *testing.T) {
	path := writeFile(t, "{}")
	if err := os.Chmod(path, 0o664); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(path, 1234, 4321); err != nil {
			t.Fatal(err)
		}
	}
	before, _ := os.Stat(path)
	if err := Update(t.Context(), path, func(e *Edit) error { return e.SetEnabled("x", true) }); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	b, a := before.Sys().(*syscall.Stat_t), after.Sys().(*syscall.Stat_t)
	if after.Mode() != 0o664 || a.Uid != b.Uid || a.Gid != b.Gid {
		t.Errorf("mode %v, owner %d:%d; want %v, %d:%d", after.Mode(), a.Uid, a.Gid, before.Mode(), b.Uid, b.Gid)
	}
}

func TestUpdateNotWritable(t *testing.T) {
	path := writeFile(t, "{}")
	dir := filepath.Dir(path)
	for p, mode := range map[string]os.FileMode{path: 0o644, dir: 0o555} {
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Chmod(dir, 0o755) })
	asOrdinaryUser(t, func() {
		err := Update(t.Context(), path, func(e *Edit) error { return e.SetEnabled("x", true) })
		if !errdefs.IsPermissionDenied(err) || fault.Of(err).Hint == "" {
			t.Errorf("Update = %v, want PermissionDenied with a hint", err)
		}
	})
}

func TestUpdateFailsWithItsChange(t *testing.T) {
	path := writeFile(t, "{}")
	want := errors.New("changed my mind")
	err := Update(t.Context(), path, func(e *Edit) error { return errors.Join(e.SetEnabled("x", true), want) })
	if !errors.Is(err, want) || readFile(t, path) != "{}" {
		t.Errorf("Update = %v, file %q", err, readFile(t, path))
	}
}

func TestUpdateSeesAHandEditInBetween(t *testing.T) {
	for name, before := range map[string]string{"of a file": `{"old": 1}`, "that makes the file": ""} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.json")
			if before != "" {
				path = writeFile(t, before)
			}
			calls := 0
			err := Update(t.Context(), path, func(e *Edit) error {
				if calls++; calls == 1 {
					if err := os.WriteFile(path, []byte(`{"byHand": true}`), 0o600); err != nil {
						return err
					}
				}
				return e.SetEnabled("x", true)
			})
			if err != nil || calls != 2 {
				t.Fatalf("Update = %v after %d calls, want 2", err, calls)
			}
			f, err := Load(path)
			if err != nil {
				t.Fatal(err)
			}
			var doc map[string]any
			if err := json.Unmarshal(f.Raw(), &doc); err != nil || doc["byHand"] != true {
				t.Errorf("the hand edit is lost: %s", f.Raw())
			}
			if _, ok := f.Entry("x"); !ok {
				t.Errorf("the update is lost: %s", f.Raw())
			}
		})
	}
}

func TestUpdateGivesUpOnABusyFile(t *testing.T) {
	path := writeFile(t, "{}")
	calls := 0
	err := Update(t.Context(), path, func(e *Edit) error {
		calls++
		if err := os.WriteFile(path, fmt.Appendf(nil, `{"n": %d}`, calls), 0o600); err != nil {
			return err
		}
		return e.SetEnabled("x", true)
	})
	if !errdefs.IsUnavailable(err) || calls != maxTries {
		t.Errorf("Update = %v after %d calls, want Unavailable after %d", err, calls, maxTries)
	}
	if got := readFile(t, path); got != fmt.Sprintf(`{"n": %d}`, maxTries) {
		t.Errorf("the file is %q", got)
	}
}

func TestUpdateWaitsForTheLock(t *testing.T) {
	path := writeFile(t, "{}")
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	err = Update(t.Context(), path, func(e *Edit) error { return e.SetEnabled("x", true) })
	if !errdefs.IsUnavailable(err) || fault.Of(err).Hint == "" {
		t.Errorf("Update = %v, want Unavailable with a hint", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	err = Update(gone, path, func(e *Edit) error { return e.SetEnabled("x", true) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Update = %v after its caller left, want Canceled", err)
	}
}

func TestUpdatesInOneProcess(t *testing.T) {
	path := writeFile(t, example)
	const workers, rounds = 8, 10
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for r := range rounds {
				err := Update(t.Context(), path, func(e *Edit) error { return e.SetEnabled(fmt.Sprintf("p%d-%d", w, r), true) })
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(entries(t, path)); n != workers*rounds+3 {
		t.Errorf("%d entries, want %d", n, workers*rounds+3)
	}
}

// TestUpdatesOfProcessesAndKill has two processes update one file until they
// are killed: the file is sound and holds all that was acknowledged.
func TestUpdatesOfProcessesAndKill(t *testing.T) {
	path := writeFile(t, example)
	for round := range 3 {
		var wg sync.WaitGroup
		acknowledged := make([][]string, 2)
		for i := range acknowledged {
			wg.Go(func() { acknowledged[i] = writeAndKill(t, path, fmt.Sprintf("r%d-%d", round, i), 10+5*round+i) })
		}
		wg.Wait()
		have := entries(t, path)
		for _, ids := range acknowledged {
			for _, id := range ids {
				if _, ok := have[id]; !ok {
					t.Errorf("round %d: the acknowledged entry %s is lost", round, id)
				}
			}
		}
	}
	if text := readFile(t, path); !strings.HasPrefix(text, "// how my gateway is set up\n") {
		t.Errorf("the file begins %.40q", text)
	}
}

func writeAndKill(t *testing.T, path, name string, after int) (ids []string) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+path, childEnv+"_NAME="+name)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Error(err)
		return nil
	}
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return nil
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if ids = append(ids, lines.Text()); len(ids) == after {
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || len(ids) < after {
		t.Errorf("the writer ended by itself (%v) after %d updates", err, len(ids))
	}
	return ids
}
