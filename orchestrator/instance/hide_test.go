package instance_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/instance"
	"github.com/ocmt/ocmt/sandbox"
)

// put makes files below dir, each with the text "secret".
func put(t testing.TB, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		path := filepath.Join(dir, name)
		mkdir(t, filepath.Dir(path))
		if err := os.WriteFile(path, []byte("secret"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// hiddenOf prepares an instance and returns what it hides, below dir.
func hiddenOf(t *testing.T, f *instance.Factory, plan instance.Plan, dir string) []string {
	t.Helper()
	in, err := f.Prepare(t.Context(), plan)
	must(t, err)
	var hidden []string
	for _, path := range in.Hidden() {
		name, ok := strings.CutPrefix(path, dir+"/")
		if !ok {
			t.Errorf("%q is hidden", path)
		}
		hidden = append(hidden, name)
	}
	slices.Sort(hidden)
	checkCovers(t, in)
	must(t, in.Close(t.Context()))
	expectNothing(t, f.Home)
	return hidden
}

// checkCovers looks at what is mounted over secrets: after the workspaces, and
// empty.
func checkCovers(t *testing.T, in *instance.Instance) {
	t.Helper()
	hidden, spec := in.Hidden(), in.Spec()
	last := slices.IndexFunc(spec.Mounts, func(m sandbox.Mount) bool { return m.Target == "/state" })
	for i, m := range spec.Mounts {
		if !slices.Contains(hidden, m.Target) {
			continue
		}
		if !m.ReadOnly || !m.NoExec || i < last {
			t.Errorf("mount %d covers a secret with %+v", i, m)
		}
		info, err := os.Stat(m.Source)
		must(t, err)
		if entries, _ := os.ReadDir(m.Source); len(entries) > 0 || !info.IsDir() && info.Size() > 0 {
			t.Errorf("%s is covered by something", m.Target)
		}
	}
}

func TestHiddenNames(t *testing.T) {
	f, _, plan := setup(t, wellBehaved)
	dir := realTempDir(t)
	hidden := []string{
		".env", ".env.local", ".ENV", "a/.env.production", "server.pem", "a/b/c/d/e/f/g/h/i/j/k/l/m/n/private.key", "KEY.PEM",
		"id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "x.p12", "x.pfx", "x.jks", "x.keystore", "x.kdbx", ".netrc", ".npmrc",
		".pypirc", ".git-credentials", ".htpasswd", "credentials.json", "service-account.json", "service-account-prod.json",
		"größe ü 日本.pem", " .pem", "with space/.env", "colon:comma,quote\"'$.key", "node_modules/.npmrc",
	}
	put(t, dir, hidden...)
	put(t, dir, ".ssh/anything", "b/.aws/credentials", ".gnupg/x", ".kube/config", ".docker/config.json", ".azure/x", ".config/gcloud/x")
	hidden = append(hidden, ".ssh", "b/.aws", ".gnupg", ".kube", ".docker", ".azure", ".config/gcloud")
	put(t, dir, ".env.example", ".env.sample", "a/.ENV.Template", "env", "key", "pem", "a.env", ".environment", "id_rsa.pub",
		"my-credentials.json", "gcloud/x", ".config/other", "x.pem.txt", ".git/config", "src/index.js")
	must(t, os.Symlink(filepath.Join(dir, "src"), filepath.Join(dir, "link.pem")))
	must(t, os.Symlink("/etc", filepath.Join(dir, "outside")))
	mkdir(t, filepath.Join(dir, "directory.pem"))
	put(t, dir, "directory.pem/inner.pem")
	hidden = append(hidden, "directory.pem/inner.pem")
	slices.Sort(hidden)

	// In a large tree of others' code nothing is looked for, unless the plugin
	// can put something there.
	put(t, dir, "node_modules/p/test.pem", ".git/objects/aa/x.key")
	for _, readOnly := range []bool{true, false} {
		want := hidden
		if !readOnly {
			want = slices.Sorted(slices.Values(append(slices.Clone(hidden), "node_modules/p/test.pem", ".git/objects/aa/x.key")))
		}
		plan.Workspaces = []instance.Workspace{{Path: dir, ReadOnly: readOnly}}
		if got := hiddenOf(t, f, plan, dir); !slices.Equal(got, want) {
			t.Errorf("read-only %v: hidden\n%q, want\n%q", readOnly, got, want)
		}
	}
}

// TestHiddenInNestedWorkspaces hides each once, whatever the order.
func TestHiddenInNestedWorkspaces(t *testing.T) {
	f, _, plan := setup(t, wellBehaved)
	dir := realTempDir(t)
	put(t, dir, ".env", "inner/.env", "inner/deep/.env", ".ssh/id", "granted/.aws/x")
	plan.Workspaces = []instance.Workspace{{Path: dir + "/inner"}, {Path: dir, ReadOnly: true}, {Path: dir + "/granted/.aws", ReadOnly: true}}
	want := []string{".env", ".ssh", "inner/.env", "inner/deep/.env"}
	if got := hiddenOf(t, f, plan, dir); !slices.Equal(got, want) {
		t.Errorf("hidden %q, want %q", got, want)
	}
}

func TestWhatCannotBeHidden(t *testing.T) {
	many := make([]string, 97)
	for i := range many {
		many[i] = fmt.Sprintf("%d.key", i)
	}
	for name, c := range map[string]struct {
		files []string
		inner string // another workspace
		code  string
	}{
		"too many":                    {files: many, code: "too_many_secrets"},
		"a new line":                  {files: []string{".env.a\nb"}, code: "secret_name"},
		"a new line in its directory": {files: []string{"a\nb/.env"}, code: "secret_name"},
		"no UTF-8":                    {files: []string{"\xff.pem"}, code: "secret_name"},
		"a workspace within":          {files: []string{".ssh/keys/x"}, inner: "/.ssh/keys", code: "workspace_hidden"},
		"as many as possible":         {files: many[:96]},
		"a new line elsewhere":        {files: []string{"a\nb", "\xff"}},
	} {
		t.Run(name, func(t *testing.T) {
			f, h, plan := setup(t, wellBehaved)
			dir := realTempDir(t)
			put(t, dir, c.files...)
			plan.Workspaces = []instance.Workspace{{Path: dir}}
			if c.inner != "" {
				plan.Workspaces = append(plan.Workspaces, instance.Workspace{Path: dir + c.inner})
			}
			in, err := f.Prepare(t.Context(), plan)
			if err == nil {
				must(t, in.Close(t.Context()))
			}
			if (err == nil) != (c.code == "") {
				t.Fatalf("Prepare() = %v, want %q", err, c.code)
			}
			if err != nil && (fault.Of(err).Code != c.code || fault.Of(err).Hint == "") {
				t.Errorf("Prepare() = %v, want %q", err, c.code)
			}
			expectNothing(t, h)
		})
	}
}

// TestSecretsAreHidden in real containers, from one that tries.
func TestSecretsAreHidden(t *testing.T) {
	onEngines(t, func(t *testing.T, f *instance.Factory, e *probing, plan instance.Plan) {
		dir := ownedDir(t)
		put(t, dir, ".env", "a/server.key", "größe 日本.pem", ".ssh/id_rsa", "a/.ssh/config", "plain", "moved/deep/.env")
		must(t, os.Link(filepath.Join(dir, ".env"), filepath.Join(dir, "a", ".env.linked")))
		must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(path, owner, owner))
		}))
		in := func(name string) string { return filepath.Join(dir, name) }
		const refused = "refused"
		for _, readOnly := range []bool{true, false} {
			plan.Workspaces, plan.Generation = []instance.Workspace{{Path: dir, ReadOnly: readOnly}}, plan.Generation+1
			var do, want []string
			for _, c := range [][2]string{
				{"read\t" + in("plain"), "secret"},
				{"read\t" + in(".env"), ""},
				{"read\t" + in("a/.env.linked"), ""},
				{"read\t" + in("a/server.key"), ""},
				{"read\t" + in("größe 日本.pem"), ""},
				{"read\t" + in(".ssh/id_rsa"), "ENOENT"},
				{"list\t" + in(".ssh"), "0"},
				{"list\t" + in("a/.ssh"), "0"},
				{"write\t" + in(".env") + "\tx", refused},
				{"write\t" + in(".ssh/new") + "\tx", refused},
				{"remove\t" + in(".env"), refused},
				{"remove\t" + in(".ssh"), refused},
				{"rename\t" + in(".env") + "\t" + in("seen"), refused},
				{"rename\t" + in(".ssh") + "\t" + in("seen"), refused},
				{"rename\t" + in("plain") + "\t" + in(".env"), refused},
				{"exchange\t" + in("plain") + "\t" + in(".env"), refused},
				{"link\t" + in(".env") + "\t" + in("seen"), refused},
				{"unmount\t" + in(".env"), refused},
				{"read\t" + in(".env"), ""},
				{"list\t" + in(".ssh"), "0"},
			} {
				do, want = append(do, c[0]), append(want, c[1])
			}
			for i, got := range e.do(t, f, plan, do...) {
				// Which reason it gives is the runtime's.
				if slices.Contains([]string{"EBUSY", "EROFS", "EXDEV", "EPERM", "EACCES", "EINVAL", "ENOSYS"}, got) {
					got = refused
				}
				if got != want[i] {
					t.Errorf("read-only %v: %q = %q, want %q", readOnly, do[i], got, want[i])
				}
			}
			if text, err := os.ReadFile(in(".env")); string(text) != "secret" {
				t.Fatalf("the host's file holds %q, %v", text, err)
			}
		}
		plan.Generation++
		// What is moved stays hidden, and so it does after the next start.
		got := e.do(t, f, plan, "make\t"+in("node_modules"), "rename\t"+in("moved")+"\t"+in("node_modules/p"), "read\t"+in("node_modules/p/deep/.env"))
		if !slices.Equal(got, []string{"", "", ""}) {
			t.Errorf("moving a directory with a secret = %q", got)
		}
		plan.Generation++
		if got := e.do(t, f, plan, "read\t"+in("node_modules/p/deep/.env")); got[0] != "" {
			t.Errorf("the secret that was moved reads %q at the next start", got[0])
		}
	})
}

// TestManyHidden is a start with as much to hide as there may be.
func TestManyHidden(t *testing.T) {
	onEngines(t, func(t *testing.T, f *instance.Factory, e *probing, plan instance.Plan) {
		dir := ownedDir(t)
		for i := range 96 {
			put(t, dir, fmt.Sprintf("%d/.env", i))
		}
		plan.Workspaces = []instance.Workspace{{Path: dir}}
		if got := e.do(t, f, plan, "read\t"+dir+"/0/.env", "read\t"+dir+"/95/.env"); got[0] != "" || got[1] != "" {
			t.Errorf("read %q", got)
		}
	})
}
