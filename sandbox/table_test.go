package sandbox_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/sandboxtest"
)

var update = flag.Bool("update", false, "write the generated tables into docs/threat-model.md")

// pluginSpec is a plugin's container with one of each kind of mount.
func pluginSpec() sandbox.Spec {
	return sandbox.Harden(sandbox.Spec{
		ID:   "ocmt-my-plugin-0a1b2c3d-g1",
		Args: []string{"/ocmt/init", "run", "--", "/usr/bin/node", "--max-old-space-size=179", "/ocmt/runner.js"},
		Env:  []string{"HOME=/state/home"},
		UID:  1234567890, GID: 1234567890,
		Mounts: []sandbox.Mount{
			{Target: "/plugin", ReadOnly: true, Image: true},
			{Target: "/run/ocmt", ReadOnly: true, NoExec: true},
			{Target: "/etc/hosts", ReadOnly: true, NoExec: true},
			{Target: "/state", NoExec: true},
		},
		Limits: sandbox.LimitsFor(sandbox.RolePlugin),
	})
}

// The engines that the document compares; the first is the one that the others
// are compared with.
var compared = []struct {
	title string
	info  sandbox.Info
}{
	{"Docker and runc", sandbox.Info{Name: "docker", Runtime: "runc", AppArmor: "docker-default"}},
	{"containerd and runc", sandbox.Info{Name: "containerd", Runtime: "runc", AppArmor: "ocmt-default", MountFlags: true}},
	{"Docker and gVisor", sandbox.Info{Name: "docker", Runtime: "runsc", AppArmor: "docker-default"}},
}

func TestTable(t *testing.T) {
	const path, begin, end = "../docs/threat-model.md", "<!-- begin: the profile, generated -->\n", "<!-- end: the profile -->\n"
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(old), begin)
	generated, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no marks for the generated part", path)
	}
	want := profileTables()
	if *update {
		if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		generated = want
	}
	if diff := cmp.Diff(want, generated); diff != "" {
		t.Errorf("%s differs from the profile; run go test ./sandbox -run TestTable -update (-want +got):\n%s", path, diff)
	}
}

// profileTables renders the profile, and then what other engines differ in.
func profileTables() string {
	var text strings.Builder
	proofs := sandboxtest.Proofs()
	first := sandbox.Table(pluginSpec(), compared[0].info)
	fmt.Fprintf(&text, "With %s, for a plugin with the default limits:\n\n| Control | Setting | Against | Proved by | Note |\n|---|---|---|---|---|\n", compared[0].title)
	for _, c := range first {
		fmt.Fprintf(&text, "| %s | %s | %s | %s | %s |\n", c.Name, c.Setting, c.Against, strings.Join(proofs[c.Name], ", "), c.Note)
	}
	for _, other := range compared[1:] {
		fmt.Fprintf(&text, "\nWhat differs with %s:\n\n| Control | Setting | Note |\n|---|---|---|\n", other.title)
		for i, c := range sandbox.Table(pluginSpec(), other.info) {
			if c != first[i] {
				fmt.Fprintf(&text, "| %s | %s | %s |\n", c.Name, c.Setting, c.Note)
			}
		}
	}
	return text.String()
}

// TestTableOf looks at what depends on the spec, the runtime and the host.
func TestTableOf(t *testing.T) {
	find := func(spec sandbox.Spec, info sandbox.Info, name string) sandbox.Control {
		t.Helper()
		all := sandbox.Table(spec, info)
		at := slices.IndexFunc(all, func(c sandbox.Control) bool { return c.Name == name })
		if at < 0 {
			t.Fatalf("no control %q", name)
		}
		return all[at]
	}
	docker, gVisor := compared[0].info, pluginSpec()
	gVisor.Runtime = "runsc"
	for _, c := range []struct {
		name string
		spec sandbox.Spec
		info sandbox.Info
		want string
	}{
		{"user and group", pluginSpec(), docker, "1234567890 and 1234567890"},
		{"mounted files", pluginSpec(), docker, "/plugin read-only, a sealed image; /run/ocmt read-only, noexec"},
		{"mounted files", pluginSpec(), docker, "/state read-write, noexec"},
		{"memory file systems", pluginSpec(), docker, "/tmp 64 MiB"},
		{"heap", pluginSpec(), docker, "179 MiB"},
		{"heap", sandbox.Spec{}, docker, "none"},
		{"cpu time", pluginSpec(), docker, "0.5 cores"},
		{"host name", pluginSpec(), docker, "ocmt-my-plugin-0a1b2c3d-g1"},
		{"seccomp", gVisor, docker, "ignores our profile"},
		{"programs from memory", gVisor, docker, "possible"},
		{"memory", pluginSpec(), sandbox.Info{Warnings: []string{"the kernel does not account swap"}}, "does not account swap"},
		{"AppArmor", pluginSpec(), sandbox.Info{Warnings: []string{"no AppArmor, for a reason"}}, "for a reason"},
		{"process count", gVisor, docker, "192"},
		{"AppArmor", gVisor, docker, "knows no AppArmor"},
		{"AppArmor", pluginSpec(), docker, "docker-default"},
		{"AppArmor", pluginSpec(), sandbox.Info{}, "the host has none"},
		{"SELinux", pluginSpec(), sandbox.Info{SELinux: true}, "the engine's label"},
	} {
		if got := find(c.spec, c.info, c.name); !strings.Contains(got.Setting+" "+got.Note, c.want) {
			t.Errorf("%+v, want %q", got, c.want)
		}
	}
	for _, c := range sandbox.Table(pluginSpec(), docker) {
		if strings.Contains(c.Note, "gVisor") {
			t.Errorf("with runc: %+v", c)
		}
	}
}

// TestTableIsProved fails for a control that nothing proves, and for a proof
// that is not there.
func TestTableIsProved(t *testing.T) {
	proofs, rows := sandboxtest.Proofs(), sandboxtest.Rows()
	for _, c := range sandbox.Table(pluginSpec(), sandbox.Info{}) {
		if len(proofs[c.Name]) == 0 {
			t.Errorf("nothing proves %q", c.Name)
		}
		for _, proof := range proofs[c.Name] {
			if folder, test, isTest := strings.Cut(proof, ".Test"); isTest {
				if !hasTest(t, folder, "Test"+test) {
					t.Errorf("%s: there is no test %s", c.Name, proof)
				}
			} else if !slices.Contains(rows, proof) {
				t.Errorf("%s: there is no row %s", c.Name, proof)
			}
		}
		delete(proofs, c.Name)
	}
	if len(proofs) > 0 {
		t.Errorf("proofs of controls that are not in the table: %q", slices.Sorted(maps.Keys(proofs)))
	}
}

// hasTest looks for a test in a folder below the module's root.
func hasTest(t *testing.T, folder, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	declares := regexp.MustCompile(`(?m)^func ` + name + `\(t \*testing\.T\)`)
	return slices.ContainsFunc(files, func(path string) bool {
		text, err := os.ReadFile(path)
		return err == nil && declares.Match(text)
	})
}
