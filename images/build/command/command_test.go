package command

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocmt/ocmt/images"
	"github.com/ocmt/ocmt/images/build"
)

// TestLinkerFlags links a program with the flags and asks it.
func TestLinkerFlags(t *testing.T) {
	base, install := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64)
	flags := linkerFlags(build.Result{Base: images.Entry{Digest: base}, Install: images.Entry{Digest: install}})
	source := filepath.Join(t.TempDir(), "main.go")
	code := "package main\n\nimport \"github.com/ocmt/ocmt/images\"\n\nfunc main() { print(images.BaseDigest, \" \", images.InstallDigest) }\n"
	if err := os.WriteFile(source, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "run", "-ldflags", flags, source).CombinedOutput()
	if err != nil || string(out) != base+" "+install {
		t.Errorf("the program says %q, %v", out, err)
	}
}

func TestRunRefuses(t *testing.T) {
	t.Setenv("OCMT_CACHE", t.TempDir())
	all := []string{"--init", "i", "--runner", "r", "--out", t.TempDir()}
	tests := map[string]struct {
		args []string
		code int
		says string
	}{
		"help":         {[]string{"--help"}, 0, "-refresh-lock"},
		"nothing":      {nil, 2, "--init"},
		"unknown flag": {[]string{"--nothing"}, 2, "-nothing"},
		"argument":     {append(all, "x"), 2, "cannot take arguments"},
		"no lock":      {append(all, "--lock", filepath.Join(t.TempDir(), "x")), 1, "lock file"},
		"no init":      {append(all, "--lock", "../../lock.json"), 1, "ocmt-init"},
		"no such arch": {append(all, "--lock", "../../lock.json", "--arch", "mips"), 1, "mips"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := Run(t.Context(), test.args, &stdout, &stderr); code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			if !strings.Contains(stderr.String(), test.says) || stdout.Len() != 0 {
				t.Errorf("stderr %q does not say %q, or stdout %q is not empty", stderr.String(), test.says, stdout.String())
			}
		})
	}
}
