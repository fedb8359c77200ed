package bus

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ocmt/ocmt/bus/subject"
)

const dockerTime = 2 * time.Minute

// TestSocketDirectoryFromInside mounts an instance's directory into a
// container, read-only as plugins get it, and tries to alter it there, as an
// ordinary user and as one with the daemon's own uid.
func TestSocketDirectoryFromInside(t *testing.T) {
	t.Parallel()
	needDocker(t)
	image := proberImage(t)
	for _, user := range []string{"12345:12345", "0:0"} {
		t.Run("user "+user, func(t *testing.T) {
			t.Parallel()
			id := identity("default", "p", 1)
			p, socket := attach(t, newServer(t, Limits{}), id)
			dir := filepath.Dir(socket)
			before := describe(t, dir)
			out := docker(t, nil, "run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL",
				"--security-opt", "no-new-privileges", "--user", user,
				"--mount", "type=bind,readonly,source="+dir+",target=/run/ocmt", image)
			if got, want := strings.TrimSpace(out), "connect"; got != want {
				t.Errorf("worked from inside: got %q, want %q only", got, want)
			}
			if after := describe(t, dir); after != before {
				t.Errorf("directory: got\n%s\nwant\n%s", after, before)
			}
			nc, _ := runner(t, socket, id)
			echo(t, nc, id, subject.Tool)
			request(t, p, subject.Tool, "x")
		})
	}
}

func needDocker(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "docker", "version", "--format", "{{.Server.Version}}").CombinedOutput()
	switch {
	case err == nil:
	case strings.Contains(os.Getenv("E2E_REQUIRE"), "docker"):
		t.Fatalf("no docker engine answers, but E2E_REQUIRE wants one: %v: %s", err, out)
	default:
		t.Skipf("no docker engine answers: %v: %.200s", err, out)
	}
}

func docker(t *testing.T, stdin []byte, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), dockerTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("docker %s: %v: %s", args[0], err, stderr.String())
	}
	t.Logf("docker %s: %s", args[0], stderr.String())
	return stdout.String()
}

// proberImage makes an image that holds the prober and nothing else.
func proberImage(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "prober")
	build := exec.Command("go", "build", "-o", bin, "./testdata/prober")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the prober: %v: %s", err, out)
	}
	data, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, h := range []*tar.Header{
		{Name: "run/ocmt/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "prober", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(data))},
	} {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	image := fmt.Sprintf("ocmt-bus-test:%d", os.Getpid())
	docker(t, archive.Bytes(), "import", "--change", `ENTRYPOINT ["/prober"]`, "-", image)
	t.Cleanup(func() { docker(t, nil, "image", "rm", "--force", image) })
	return image
}

// describe says all that could be altered about a directory.
func describe(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	for _, path := range append([]string{dir}, list(t, dir)...) {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&b, "%s %s inode %d owner %d:%d changed %d\n", path, info.Mode(), st.Ino, st.Uid, st.Gid, st.Ctim.Nano())
	}
	return b.String()
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, e := range entries {
		paths = append(paths, filepath.Join(dir, e.Name()))
	}
	return paths
}
