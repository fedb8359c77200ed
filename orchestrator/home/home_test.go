package home_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/home"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

func TestDefault(t *testing.T) {
	for name, tc := range map[string]struct {
		env  map[string]string
		want string
		fail bool
	}{
		"OCMT_HOME wins": {env: map[string]string{"OCMT_HOME": "/a", "HOME": "/b"}, want: "/a"},
		"HOME":           {env: map[string]string{"HOME": "/b"}, want: "/b/.openclaw"},
		"neither":        {fail: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := home.Default(func(k string) string { return tc.env[k] })
			if got != tc.want || (err != nil) != tc.fail {
				t.Errorf("Default() = %q, %v; want %q, error %v", got, err, tc.want, tc.fail)
			}
		})
	}
}

func TestOpenMakesPrivateDirectories(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	h, err := home.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{h.Store(), h.Staging(), h.Instances(), h.Run(), h.Sockets(), h.Audit(), h.Keys()} {
		st, err := os.Stat(d)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %v, want 0700", d, st.Mode().Perm())
		}
	}
	if left, _ := filepath.Glob(filepath.Join(h.Run(), ".probe*")); len(left) > 0 {
		t.Errorf("Open left %v", left)
	}
}

func TestOpenRefusesWhatCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, "/proc/nothing"} {
		_, err := home.Open(dir)
		if err == nil || !strings.Contains(err.Error(), "cannot write to the home") {
			t.Errorf("Open(%s) = %v, want a clear refusal", dir, err)
		}
	}
	if _, err := home.Open(file); !errdefs.IsPermissionDenied(err) {
		t.Errorf("Open(a file) = %v, want PermissionDenied", err)
	}
}

func TestSocketDirIsShortAndDistinct(t *testing.T) {
	h, err := home.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 200)
	a, b := h.SocketDir(long+"a"), h.SocketDir(long+"b")
	if a == b {
		t.Error("two instances share a socket directory")
	}
	if n := len(filepath.Base(a)); n > 12 {
		t.Errorf("the directory's name has %d bytes, want at most 12", n)
	}
	if h.State(plugin.Key{Tenant: "a", ID: "p"}) == h.State(plugin.Key{Tenant: "b", ID: "p"}) {
		t.Error("two tenants share a state directory")
	}
}
