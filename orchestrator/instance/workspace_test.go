package instance_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/home"
	"github.com/ocmt/ocmt/orchestrator/instance"
)

// realTempDir is a directory of the test's own, by its path without symlinks.
func realTempDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func mkdir(t testing.TB, path string) string {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCheckWorkspace(t *testing.T) {
	dir := realTempDir(t)
	h, err := home.Open(filepath.Join(dir, "people", "home"))
	if err != nil {
		t.Fatal(err)
	}
	ownHome := mkdir(t, filepath.Join(dir, "alice"))
	t.Setenv("HOME", ownHome)
	good := mkdir(t, filepath.Join(ownHome, "project é"))
	file := filepath.Join(dir, "file")
	link, deepLink := filepath.Join(dir, "link"), filepath.Join(dir, "link", "below")
	mkdir(t, filepath.Join(good, "below"))
	withSocket := mkdir(t, filepath.Join(dir, "sockets", "deep"))
	for _, err := range []error{os.WriteFile(file, nil, 0o600), os.Symlink(good, link)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	// The name of a socket may have 107 bytes.
	t.Chdir(withSocket)
	listener, err := net.Listen("unix", "docker.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()

	const bad, refused = "bad_workspace", "workspace_refused"
	for path, code := range map[string]string{
		good: "", filepath.Join(good, "below"): "",
		"": bad, "relative": bad, "./x": bad, "~/x": bad, good + "/": bad, good + "//below": bad, good + "/../x": bad,
		good + "\n": bad, "/srv/a\x00b": bad,
		link: "workspace_symlink", deepLink: "workspace_symlink",
		file:                        "workspace_no_directory",
		filepath.Join(file, "x"):    "workspace_unreadable",
		filepath.Join(dir, "none"):  "workspace_missing",
		filepath.Dir(withSocket):    refused,
		withSocket:                  refused,
		ownHome:                     refused,
		dir:                         refused, // above homes
		h.Dir():                     refused,
		filepath.Dir(h.Dir()):       refused,
		h.Store():                   refused,
		"/":                         refused,
		"/proc/self/root":           refused,
		"/sys":                      refused,
		"/dev/shm":                  refused,
		"/run":                      refused,
		"/run/user/1000":            refused,
		"/var/run/docker":           refused,
		"/var":                      refused,
		"/var/lib":                  refused,
		"/var/lib/docker/volumes/x": refused,
		"/boot":                     refused,
		"/etc":                      refused,
		"/etc/ocmt":                 refused,
		"/usr/local/src":            refused,
		"/bin":                      refused,
		"/lib64":                    refused,
		"/tmp":                      refused,
		"/var/tmp":                  refused,
		"/home":                     refused,
		"/home/nobody-at-all":       refused,
		"/root":                     refused,
		"/plugin":                   refused,
		"/plugin/x":                 refused,
		"/state":                    refused,
		"/ocmt":                     refused,
	} {
		err := instance.CheckWorkspace(path, h)
		if code == "" {
			if err != nil {
				t.Errorf("CheckWorkspace(%q) = %v", path, err)
			}
			continue
		}
		got := fault.Of(err)
		if err == nil || got.Code != code || got.Hint == "" {
			t.Errorf("CheckWorkspace(%q) = %v, want %s and a hint", path, err, code)
		}
		if is := errdefs.IsPermissionDenied(err); is != (code == refused) || !is && !errdefs.IsInvalidArgument(err) {
			t.Errorf("CheckWorkspace(%q) has class %v", path, got.Class())
		}
	}
	if err := instance.CheckWorkspace(link, h); !strings.Contains(err.Error(), good) {
		t.Errorf("%v, want it to name %s", err, good)
	}
}

func FuzzCheckWorkspace(f *testing.F) {
	for _, path := range []string{"/", "/srv/x", "/etc/../srv", "//etc", "/proc/1/root", "relative"} {
		f.Add(path)
	}
	h, err := home.Open(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if err := instance.CheckWorkspace(path, h); err != nil {
			if fault.Of(err).Hint == "" {
				t.Errorf("CheckWorkspace(%q) = %v, without a hint", path, err)
			}
			return
		}
		real, err := filepath.EvalSymlinks(path)
		if err != nil || real != path || !filepath.IsAbs(path) {
			t.Errorf("CheckWorkspace(%q) accepts %q, %v", path, real, err)
		}
	})
}

// TestWorkspaceThatIsNotThere fails before a container is made, and leaves
// nothing.
func TestWorkspaceThatIsNotThere(t *testing.T) {
	f, h, plan := setup(t, wellBehaved)
	dir := realTempDir(t)
	link := filepath.Join(dir, "link")
	if err := os.Symlink(mkdir(t, filepath.Join(dir, "real")), link); err != nil {
		t.Fatal(err)
	}
	for path, code := range map[string]string{
		filepath.Join(dir, "gone"): "workspace_missing",
		link:                       "workspace_symlink",
		"/etc":                     "workspace_refused",
	} {
		plan.Workspaces = []instance.Workspace{{Path: mkdir(t, filepath.Join(dir, "first"))}, {Path: path}}
		_, err := f.Prepare(t.Context(), plan)
		if got := fault.Of(err); got.Code != code || got.Hint == "" || !strings.Contains(err.Error(), key.String()) {
			t.Errorf("Prepare() with %s = %v, want %s", path, err, code)
		}
		expectNothing(t, h)
	}
}

// TestWorkspaceTwice is refused by the engine's contract.
func TestWorkspaceTwice(t *testing.T) {
	f, h, plan := setup(t, wellBehaved)
	dir := realTempDir(t)
	plan.Workspaces = []instance.Workspace{{Path: dir}, {Path: dir, ReadOnly: true}}
	if _, err := f.Prepare(t.Context(), plan); !errdefs.IsInvalidArgument(err) {
		t.Errorf("Prepare() = %v, want InvalidArgument", err)
	}
	expectNothing(t, h)
}

// TestLoadCheckGetsNoGrants looks at what the engine is given.
func TestLoadCheckGetsNoGrants(t *testing.T) {
	f, _, plan := setup(t, wellBehaved)
	plan.Discovery = true
	plan.Env, plan.Host = map[string]string{"SECRET": "x"}, []string{"host.emit"}
	plan.Workspaces = []instance.Workspace{{Path: realTempDir(t)}}
	f.CAFiles = []string{"/etc/passwd"}
	in, err := f.Prepare(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close(t.Context())
	spec := specOf(t, f, in)
	for _, m := range spec.Mounts {
		if m.Target == plan.Workspaces[0].Path || strings.HasSuffix(m.Target, ".pem") {
			t.Errorf("a load check has %+v", m)
		}
	}
	if _, err := os.Stat(filepath.Join(source(spec, "/run/ocmt"), "egress.sock")); err == nil {
		t.Error("a load check has an egress socket")
	}
}

// TestCheckWritable looks at who else gets to what a plugin writes, where the
// runtime lets it make set-user-ID programs.
func TestCheckWritable(t *testing.T) {
	top := realTempDir(t)
	inside := mkdir(t, filepath.Join(top, "people", "work"))
	open := "/usr/local/share" // everybody gets there
	for _, tc := range []struct {
		path, runtime string
		refused       bool
	}{
		{open, "runc", false}, {open, "", false}, {open, "runsc", true}, {inside, "runsc", true}, {inside, "runc", false},
	} {
		if tc.path == inside { // the directory itself is the plugin's to change
			if err := os.Chmod(inside, 0o700); err != nil {
				t.Fatal(err)
			}
			for dir := filepath.Dir(inside); dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
				if err := os.Chmod(dir, 0o755); err != nil {
					t.Skipf("the directory of temporary files is not ours: %v", err)
				}
			}
		}
		if err := instance.CheckWritable(tc.path, tc.runtime); errdefs.IsPermissionDenied(err) != tc.refused {
			t.Errorf("%s under %q: %v, refused: want %v", tc.path, tc.runtime, err, tc.refused)
		}
	}
	if err := os.Chmod(filepath.Dir(inside), 0o710); err != nil {
		t.Fatal(err)
	}
	if err := instance.CheckWritable(inside, "runsc"); err != nil {
		t.Errorf("below a directory that keeps others out: %v", err)
	}
	if err := instance.CheckWritable(filepath.Join(top, "none", "x"), "runsc"); err == nil {
		t.Error("a directory that is not there can be written to")
	}
}
