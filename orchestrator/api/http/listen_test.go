package httpapi_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "run", "admin.sock")
	first, err := httpapi.ListenUnix(t.Context(), path, 0o660)
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]fs.FileMode{path: 0o660, filepath.Dir(path): 0o700} {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v (%v), want %v", p, info.Mode(), err, want)
		}
	}
	_, err = httpapi.ListenUnix(t.Context(), path, 0o600)
	f := fault.Of(err)
	if !errdefs.IsConflict(err) || f.Code != "daemon_running" || !strings.Contains(f.Message, fmt.Sprintf("pid %d", os.Getpid())) || !strings.Contains(f.Hint, "kill") {
		t.Errorf("second daemon: %v, hint %q", err, f.Hint)
	}
	if conn, err := net.Dial("unix", path); err != nil {
		t.Errorf("the first daemon lost its socket: %v", err)
	} else {
		conn.Close()
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false)
	first.Close() // as a killed daemon leaves it
	second, err := httpapi.ListenUnix(t.Context(), path, 0o600)
	if err != nil {
		t.Fatalf("stale socket: %v", err)
	}
	second.Close()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left over: %v", err)
	}
}

func TestListenUnixRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(dir, "open")
	if err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, path string
		is         func(error) bool
		says       string
	}{
		{"a file", file, errdefs.IsConflict, "no socket"},
		{"a long path", filepath.Join(dir, strings.Repeat("x", 108)), errdefs.IsInvalidArgument, "bytes"},
		{"a directory open to all", filepath.Join(open, "admin.sock"), errdefs.IsPermissionDenied, "others may write"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, err := httpapi.ListenUnix(t.Context(), tc.path, 0o600)
			if err == nil {
				l.Close()
			}
			if !tc.is(err) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v", err)
			}
		})
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "precious" {
		t.Errorf("the file was touched: %q, %v", text, err)
	}
}
