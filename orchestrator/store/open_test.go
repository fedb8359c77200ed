package store

import (
	"bytes"
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// seed makes a database with a few pages and returns its path.
func seed(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a", "b", "c"} {
		put(t, s, installed("default", id, "sha256:aa"))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func execRaw(t *testing.T, path, script string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(script); err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(t *testing.T, path string)
		class func(error) bool
		code  string
	}{
		{"newer schema", func(t *testing.T, path string) { execRaw(t, path, `PRAGMA user_version = 99`) },
			errdefs.IsFailedPrecondition, "state_newer"},
		{"another program's database", func(t *testing.T, path string) { execRaw(t, path, `PRAGMA application_id = 7`) },
			errdefs.IsFailedPrecondition, "state_foreign"},
		{"a rollback-mode database", func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			execRaw(t, path, `CREATE TABLE notes (text)`)
		}, errdefs.IsFailedPrecondition, "state_foreign"},
		{"no database", func(t *testing.T, path string) { write(t, path, bytes.Repeat([]byte("not a database\n"), 400)) },
			errdefs.IsDataLoss, "state_corrupt"},
		{"damaged pages", damage, errdefs.IsDataLoss, "state_corrupt"},
		{"cut short", func(t *testing.T, path string) {
			if err := os.Truncate(path, 5000); err != nil {
				t.Fatal(err)
			}
		}, errdefs.IsDataLoss, "state_corrupt"},
		{"a directory in its place", func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, errdefs.IsPermissionDenied, "home_not_writable"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := seed(t)
			tt.spoil(t, path)
			before, _ := os.ReadFile(path)
			s, err := Open(t.Context(), path)
			if err == nil {
				s.Close()
				t.Fatal("Open succeeded")
			}
			f := fault.Of(err)
			if !tt.class(err) || f.Code != tt.code || f.Hint == "" {
				t.Errorf("Open = %v (code %s, hint %q), want code %s and a hint", err, f.Code, f.Hint, tt.code)
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
				t.Error("the refused file was changed")
			}
		})
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// damage overwrites every page but the first.
func damage(t *testing.T, path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 4096; i < len(data); i++ {
		data[i] = 0xa5
	}
	write(t, path, data)
}

func TestOpenBelowAFile(t *testing.T) {
	path := seed(t)
	_, err := Open(t.Context(), filepath.Join(path, "ocmt", "state.db"))
	if f := fault.Of(err); !errdefs.IsFailedPrecondition(err) || f.Hint == "" {
		t.Errorf("Open = %v, want FailedPrecondition with a hint", err)
	}
}

func TestOpenNotWritable(t *testing.T) {
	tests := []struct {
		name string
		make func(t *testing.T, dir string) string
	}{
		{"home", func(_ *testing.T, dir string) string { return filepath.Join(dir, "ocmt", "state.db") }},
		{"directory", func(_ *testing.T, dir string) string { return filepath.Join(dir, "state.db") }},
		{"file", func(t *testing.T, dir string) string {
			path := filepath.Join(dir, "state.db")
			s, err := Open(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, 0o444); err != nil {
				t.Fatal(err)
			}
			return path
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := tt.make(t, dir)
			if err := os.Chmod(dir, 0o555); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Chmod(dir, 0o755) })
			err := asOrdinaryUser(func() error {
				s, err := Open(context.Background(), path)
				if err == nil {
					s.Close()
				}
				return err
			})
			f := fault.Of(err)
			if !errdefs.IsPermissionDenied(err) || f.Hint == "" {
				t.Errorf("Open = %v (hint %q), want PermissionDenied with a hint", err, f.Hint)
			}
		})
	}
}

// asOrdinaryUser runs f without root's right to pass over file modes: setting
// the file system uid of a thread takes CAP_DAC_OVERRIDE from it.
func asOrdinaryUser(f func() error) error {
	if os.Geteuid() != 0 {
		return f()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Setfsuid(65534); err != nil {
		return err
	}
	defer func() { _ = unix.Setfsuid(0) }() // the thread's own uid is always allowed
	return f()
}

func TestPragmasAndModes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "er", "state.db")
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for name, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000",
	} {
		var got string
		if err := s.write.QueryRow("PRAGMA " + name).Scan(&got); err != nil || got != want {
			t.Errorf("%s = %s, %v, want %s", name, got, err, want)
		}
	}
	if _, err := s.read.Exec(`DELETE FROM meta`); err == nil {
		t.Error("a reading connection can write")
	}
	for p, want := range map[string]os.FileMode{path: 0o600, path + "-wal": 0o600, filepath.Dir(path): 0o700 | os.ModeDir} {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", filepath.Base(p), info.Mode(), want)
		}
	}
}
