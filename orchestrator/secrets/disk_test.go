package secrets

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// childEnv turns the test binary into a process that keeps changing a store.
const childEnv = "OCMT_SECRETS_TEST_WRITER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		fmt.Fprintln(os.Stderr, writeForEver(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// writeForEver says what it is about to do, and what it has done.
func writeForEver(dir string) error {
	s, err := Open(filepath.Join(dir, "secrets"), filepath.Join(dir, "secrets.key"))
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		name := fmt.Sprintf("K%d", n%8)
		value := fmt.Sprintf("value-%d-%s", n, strings.Repeat("x", n%4096))
		fmt.Println("begin", name, value)
		if _, err := s.Set(context.Background(), "default", bound(name), value); err != nil {
			return err
		}
		fmt.Println("done", name, value)
		if n%5 == 4 {
			if err := s.Rotate(context.Background()); err != nil {
				return err
			}
		}
	}
}

func TestKill(t *testing.T) {
	dir := t.TempDir()
	acknowledged, begun := map[string]string{}, map[string]string{}
	for round := range 12 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			word, rest, _ := strings.Cut(lines.Text(), " ")
			name, value, _ := strings.Cut(rest, " ")
			if word == "begin" {
				begun[name] = value
			} else {
				acknowledged[name] = value
			}
			if n == 10+7*round {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait()
		if stderr.Len() > 0 {
			t.Fatal(stderr.String())
		}
		s, err := Open(filepath.Join(dir, "secrets"), filepath.Join(dir, "secrets.key"))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range acknowledged {
			got, err := s.Value("default", name)
			if err != nil || got != value && got != begun[name] {
				t.Fatalf("round %d: %s = %.20q, %v, want %.20q or %.20q", round, name, got, err, value, begun[name])
			}
			acknowledged[name] = got
		}
		for _, p := range []string{".secrets.key.tmp", "secrets.key.next", "secrets/.default.age.tmp"} {
			if _, err := os.Lstat(filepath.Join(dir, p)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("round %d: %s is left: %v", round, p, err)
			}
		}
	}
}

// stopAfter is a context that ends when it has been asked n times.
type stopAfter struct {
	context.Context
	n int
}

func (c *stopAfter) Err() error {
	if c.n--; c.n < 0 {
		return context.Canceled
	}
	return nil
}

func TestRotate(t *testing.T) {
	tenants := []string{"a", "b", "default"}
	key := plugin.Key{Tenant: "a", ID: "x"}
	done := false
	for steps := 0; !done; steps++ {
		p := newPlace(t)
		s := p.open(t)
		for _, tenant := range tenants {
			set(t, s, tenant, "KEY", sample+tenant)
		}
		before, err := os.ReadFile(p.key)
		if err != nil {
			t.Fatal(err)
		}
		placeholder := s.Placeholder(key, "KEY")
		err = s.Rotate(&stopAfter{t.Context(), steps})
		if done = err == nil; !done && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if now, err := os.ReadFile(p.key); err != nil || bytes.Equal(now, before) == done {
			t.Errorf("after %d steps: the key changed before the end, or did not: %v", steps, err)
		}
		// Somebody else goes on as if there had been a crash, this one as if not.
		copied := place{filepath.Join(t.TempDir(), "secrets"), filepath.Join(t.TempDir(), "secrets.key")}
		copyPlace(t, p, copied)
		if steps > 0 {
			set(t, s, "b", "MORE", sample)
		}
		again := copied.open(t)
		for _, tenant := range tenants {
			wantValue(t, s, tenant, "KEY", sample+tenant)
			wantValue(t, again, tenant, "KEY", sample+tenant)
		}
		if got := again.Placeholder(key, "KEY"); got != placeholder {
			t.Errorf("after %d steps: the placeholder was %s and is %s", steps, placeholder, got)
		}
		if err := s.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, q := range []place{p, copied} {
			if _, err := os.Lstat(q.key + nextSuffix); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("after %d steps: the next key is still there: %v", steps, err)
			}
		}
		for _, tenant := range tenants {
			wantValue(t, p.open(t), tenant, "KEY", sample+tenant)
		}
		if err := os.WriteFile(p.key, before, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(p.dir, p.key); fault.Of(err).Code != "wrong_secrets_key" {
			t.Errorf("after %d steps: the old key still opens it: %v", steps, err)
		}
		if done && steps < len(tenants)+2 {
			t.Errorf("it took %d steps only", steps)
		}
	}
}

func copyPlace(t *testing.T, from, to place) {
	t.Helper()
	if err := os.CopyFS(to.dir, os.DirFS(from.dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(to.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Dir(to.key), os.DirFS(filepath.Dir(from.key))); err != nil {
		t.Fatal(err)
	}
	for _, file := range files(t, to) {
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range []string{"secrets.key", "secrets.key.next"} {
		_ = os.Chmod(filepath.Join(filepath.Dir(to.key), e), 0o600) // the next one need not be there
	}
}

// A rotation begins only when everything can be read, and one that cannot be
// finished keeps both keys.
func TestRotateWithDamage(t *testing.T) {
	p := newPlace(t)
	s := p.open(t)
	set(t, s, "a", "KEY", sample)
	set(t, s, "b", "KEY", sample)
	file := filepath.Join(p.dir, "b.age")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	damage := func() {
		if err := os.WriteFile(file, whole[:len(whole)-1], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	damage()
	if err := s.Rotate(t.Context()); !errdefs.IsDataLoss(err) {
		t.Errorf("Rotate = %v, want DataLoss", err)
	}
	if _, err := os.Lstat(p.key + nextSuffix); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it began: %v", err)
	}
	if err := os.WriteFile(file, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Rotate(&stopAfter{t.Context(), 2}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	damage()
	again := p.open(t)
	wantValue(t, again, "a", "KEY", sample)
	if err := again.Rotate(t.Context()); !errdefs.IsDataLoss(err) {
		t.Errorf("Rotate = %v, want DataLoss", err)
	}
	if err := os.WriteFile(file, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	wantValue(t, p.open(t), "b", "KEY", sample)
}

func TestModes(t *testing.T) {
	p := newPlace(t)
	s := p.open(t)
	set(t, s, "default", "KEY", sample)
	check := func() {
		t.Helper()
		for path, want := range map[string]os.FileMode{
			p.dir: 0o700 | os.ModeDir, filepath.Dir(p.key): 0o700 | os.ModeDir, p.key: 0o600, filepath.Join(p.dir, "default.age"): 0o600,
		} {
			if info, err := os.Lstat(path); err != nil || info.Mode() != want {
				t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, want)
			}
		}
		if n := len(files(t, p)); n != 2 {
			t.Errorf("%d files, want the key and one of secrets", n)
		}
	}
	check()
	if err := s.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	check()
}

func TestRefusedAtOpen(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(t *testing.T, p place)
		code  string
	}{
		{"key missing", func(t *testing.T, p place) { must(t, os.Remove(p.key)) }, "secrets_key_missing"},
		{"key missing, the next one there", func(t *testing.T, p place) {
			must(t, os.Remove(filepath.Join(p.dir, "default.age")))
			must(t, os.Rename(p.key, p.key+nextSuffix))
		}, "secrets_key_missing"},
		{"key of others", func(t *testing.T, p place) { must(t, os.Chmod(p.key, 0o640)) }, "secrets_unsafe"},
		{"next key of others", func(t *testing.T, p place) { must(t, os.WriteFile(p.key+nextSuffix, nil, 0o644)) }, "secrets_unsafe"},
		{"key a link", func(t *testing.T, p place) {
			must(t, os.Rename(p.key, p.key+".real"))
			must(t, os.Symlink(p.key+".real", p.key))
		}, "secrets_unsafe"},
		{"key a directory", func(t *testing.T, p place) {
			must(t, os.Remove(p.key))
			must(t, os.Mkdir(p.key, 0o700))
		}, "secrets_unsafe"},
		{"key another owner's", func(t *testing.T, p place) { chown(t, p.key) }, "secrets_unsafe"},
		{"key empty", func(t *testing.T, p place) { must(t, os.Truncate(p.key, 0)) }, "bad_secrets_key"},
		{"key broken", func(t *testing.T, p place) { must(t, os.WriteFile(p.key, []byte("AGE-SECRET-KEY-1QQQQ\n"), 0o600)) }, "bad_secrets_key"},
		{"key huge", func(t *testing.T, p place) { must(t, os.Truncate(p.key, maxKeyFile+1)) }, "secrets_damaged"},
		{"another key", func(t *testing.T, p place) {
			other := newPlace(t)
			other.open(t)
			must(t, os.Rename(other.key, p.key))
		}, "wrong_secrets_key"},
		{"directory of others", func(t *testing.T, p place) { must(t, os.Chmod(p.dir, 0o750)) }, "secrets_unsafe"},
		{"directory another owner's", func(t *testing.T, p place) { chown(t, p.dir) }, "secrets_unsafe"},
		{"directory a link", func(t *testing.T, p place) {
			must(t, os.Rename(p.dir, p.dir+".real"))
			must(t, os.Symlink(p.dir+".real", p.dir))
		}, "secrets_unsafe"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlace(t)
			set(t, p.open(t), "default", "KEY", sample)
			before, _ := os.ReadFile(p.key)
			tt.spoil(t, p)
			_, err := Open(p.dir, p.key)
			f := fault.Of(err)
			if err == nil || f.Code != tt.code || f.Hint == "" || tt.code != "secrets_damaged" && !errdefs.IsFailedPrecondition(err) {
				t.Fatalf("Open = %v (%s, hint %q), want %s", err, f.Code, f.Hint, tt.code)
			}
			if strings.Contains(f.Message+f.Hint, "QQQQ") {
				t.Errorf("the error quotes the key: %v", err)
			}
			if now, _ := os.ReadFile(p.key); tt.code == "secrets_key_missing" && now != nil {
				t.Errorf("a key was made in place of the missing one (%d bytes, were %d)", len(now), len(before))
			}
		})
	}
}

func TestTenantsFileRefused(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(t *testing.T, p place, file string)
		is    func(error) bool
	}{
		{"cut off", func(t *testing.T, _ place, file string) { must(t, os.Truncate(file, 300)) }, errdefs.IsDataLoss},
		{"empty", func(t *testing.T, _ place, file string) { must(t, os.Truncate(file, 0)) }, errdefs.IsDataLoss},
		{"huge", func(t *testing.T, _ place, file string) { must(t, os.Truncate(file, maxFile+1)) }, errdefs.IsDataLoss},
		{"changed", func(t *testing.T, _ place, file string) {
			data, err := os.ReadFile(file)
			must(t, err)
			data[len(data)-1] ^= 1
			must(t, os.WriteFile(file, data, 0o600))
		}, errdefs.IsDataLoss},
		{"another tenant's", func(t *testing.T, p place, file string) {
			data, err := os.ReadFile(filepath.Join(p.dir, "other.age"))
			must(t, err)
			must(t, os.WriteFile(file, data, 0o600))
		}, errdefs.IsDataLoss},
		{"for another key", func(t *testing.T, p place, file string) {
			elsewhere := newPlace(t)
			set(t, elsewhere.open(t), "default", "KEY", sample)
			must(t, os.Rename(filepath.Join(elsewhere.dir, "default.age"), file))
		}, errdefs.IsFailedPrecondition},
		{"mode", func(t *testing.T, _ place, file string) { must(t, os.Chmod(file, 0o604)) }, errdefs.IsFailedPrecondition},
		{"link", func(t *testing.T, _ place, file string) {
			must(t, os.Rename(file, file+".real"))
			must(t, os.Symlink(file+".real", file))
		}, errdefs.IsFailedPrecondition},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlace(t)
			s := p.open(t)
			set(t, s, "default", "KEY", sample)
			set(t, s, "other", "KEY", sample)
			file := filepath.Join(p.dir, "default.age")
			whole, err := os.ReadFile(file)
			must(t, err)
			tt.spoil(t, p, file)
			broken, err := os.ReadFile(file)
			must(t, err)

			s = p.open(t)
			_, valueErr := s.Value("default", "KEY")
			_, setErr := s.Set(t.Context(), "default", bound("NEW"), sample)
			for _, err := range []error{valueErr, setErr} {
				if !tt.is(err) || fault.Of(err).Hint == "" {
					t.Errorf("got %v", err)
				}
			}
			if now, _ := os.ReadFile(file); !bytes.Equal(now, broken) {
				t.Error("the file was written to")
			}
			if got := s.Placeholder(plugin.Key{Tenant: "default", ID: "x"}, "KEY"); got != "" {
				t.Errorf("the placeholder is %q", got)
			}
			wantValue(t, s, "other", "KEY", sample)
			must(t, os.Remove(file))
			must(t, os.WriteFile(file, whole, 0o600))
			wantValue(t, s, "default", "KEY", sample) // as soon as it is mended
		})
	}
}

func TestSetThatCannotBeWritten(t *testing.T) {
	p := newPlace(t)
	s := p.open(t)
	key := plugin.Key{Tenant: "default", ID: "x"}
	placeholder := s.Placeholder(key, "KEY")
	blocked := filepath.Join(p.dir, ".default.age.tmp", "x")
	for _, want := range []string{"", sample} {
		must(t, os.MkdirAll(blocked, 0o700)) // the temporary file cannot be made
		if _, err := s.Set(t.Context(), "default", bound("KEY"), "another value"); fault.Of(err).Code != "secrets_inaccessible" {
			t.Errorf("Set = %v", err)
		}
		if got, _ := s.Value("default", "KEY"); got != want {
			t.Errorf("the value is %q, want %q", got, want)
		}
		if got := s.Placeholder(key, "KEY"); got != placeholder {
			t.Errorf("the placeholder was %s and is %s", placeholder, got)
		}
		must(t, os.RemoveAll(filepath.Dir(blocked)))
		set(t, s, "default", "KEY", sample)
	}
	wantValue(t, p.open(t), "default", "KEY", sample)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func chown(t *testing.T, path string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file to another user")
	}
	must(t, os.Chown(path, 1234, 1234))
}
