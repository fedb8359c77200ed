package hostile

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// programs builds testdata/syscalls, static, once for all attacks.
type programs struct {
	dir  string
	once sync.Once
	err  error
}

func (p *programs) syscalls() (string, error) {
	path := filepath.Join(p.dir, "syscalls")
	p.once.Do(func() {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "./testdata/syscalls")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			p.err = fmt.Errorf("cannot build testdata/syscalls: %w: %s", err, out)
		}
	})
	return path, p.err
}

// pack copies testdata/NAME and testdata/shared, and the program for system
// calls if it is asked for, into a directory below dir.
func (p *programs) pack(t *testing.T, name, dir string, raw bool) string {
	t.Helper()
	to := filepath.Join(dir, "package")
	for _, from := range []string{"shared", name} {
		if err := copyFiles(to, filepath.Join("testdata", from)); err != nil {
			t.Fatal(err)
		}
	}
	if raw {
		program, err := p.syscalls()
		if err == nil {
			err = copyFile(filepath.Join(to, "syscalls"), program, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// copyFiles copies a directory's files into another, which is made.
func copyFiles(to, from string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, e := range entries {
		if err := copyFile(filepath.Join(to, e.Name()), filepath.Join(from, e.Name()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(to, from string, mode os.FileMode) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, mode)
}
