package sandboxtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/erofs/go-erofs"

	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/sandboxtest/internal/report"
)

// sealedImage mounts an EROFS image file by its path and by a descriptor.
func sealedImage(t *testing.T, s *suite) {
	info, err := s.Engine.Info(s.ctx(t))
	if err != nil {
		t.Fatal(err)
	}
	if !info.ImageMounts {
		t.Skip("the engine or its kernel does not mount EROFS image files")
	}
	path := filepath.Join(directory(t), "payload.erofs")
	if err := writeSealed(path, "sealed"); err != nil {
		t.Fatal(err)
	}
	mount := sandbox.Mount{Source: path, Target: "/plugin", ReadOnly: true, Image: true}
	if got := s.attempt(t, s.with(mount, "read", "/plugin/data")); got.Text != "sealed" {
		t.Errorf("%+v", got)
	}
	s.wantAttempt(t, "EROFS", s.with(mount, "create", "/plugin/new"))
	var inside report.Kernel
	s.ask(t, s.with(mount, "sandbox"), &inside)
	if s.Seccomp { // gVisor shows a mount of its own
		wantMount(t, inside, "/plugin", "erofs", "ro", "nosuid", "nodev")
	}

	// A descriptor stays what it was when somebody renames another file over
	// its path.
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := errors.Join(writeSealed(path+".new", "forged"), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
	mount.Source = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), file.Fd())
	if got := s.attempt(t, s.with(mount, "read", "/plugin/data")); got.Text != "sealed" {
		t.Errorf("by descriptor: %+v", got)
	}
}

func writeSealed(path, text string) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	fsys := erofs.Create(out)
	if err := fsys.Mkdir("/", 0o777); err != nil {
		return err
	}
	file, err := fsys.Create("/data")
	if err != nil {
		return err
	}
	if _, err := file.Write([]byte(text)); err != nil {
		return err
	}
	return errors.Join(file.Close(), fsys.Close(), out.Sync())
}
