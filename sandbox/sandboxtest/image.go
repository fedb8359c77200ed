package sandboxtest

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/ocmt/ocmt/sandbox"
)

// What the probe's image would add to a container if an engine let it.
const (
	imageEnv  = "IMAGE_SECRET=leaked"
	imageUser = "probe" // by /etc/group also a member of imageGroup
)

// The user and group that the suite's containers run as.
const (
	uid, gid   = 20001, 20002
	imageGroup = 20003
)

// ProbeImage builds the probe and packs it into an image, which differs from
// every other one: whoever loaded it may remove it.
func ProbeImage(t testing.TB) sandbox.Image {
	t.Helper()
	dir := t.TempDir()
	probe := filepath.Join(dir, "probe")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", probe, "github.com/ocmt/ocmt/sandbox/sandboxtest/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build the probe: %v\n%s", err, out)
	}
	binary, err := os.ReadFile(probe)
	if err != nil {
		t.Fatal(err)
	}
	return pack(t, dir, binary)
}

// TinyImage returns an image that holds nothing that runs.
func TinyImage(t testing.TB) sandbox.Image {
	t.Helper()
	return pack(t, t.TempDir(), []byte("no program\n"))
}

func pack(t testing.TB, dir string, probe []byte) sandbox.Image {
	t.Helper()
	img, err := assemble(probe)
	if err != nil {
		t.Fatalf("cannot assemble the probe's image: %v", err)
	}
	digest, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "image.tar")
	tag, err := name.NewTag("ocmt-probe:" + digest.Hex)
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(path, tag, img); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return sandbox.Image{
		Digest: digest.String(),
		Size:   info.Size(),
		Open:   func() (io.ReadCloser, error) { return os.Open(path) },
	}
}

// assemble makes an image of one layer whose configuration asks for much that
// a sandbox must not get from it.
func assemble(probe []byte) (v1.Image, error) {
	content, err := layer(map[string]file{
		"probe":       {mode: 0o755, data: probe},
		"etc/passwd":  {mode: 0o644, data: []byte("root:x:0:0::/root:/\n" + imageUser + ":x:20001:20002::/home/probe:/\n")},
		"etc/group":   {mode: 0o644, data: []byte("root:x:0:\nprobe:x:20002:\nextra:x:20003:" + imageUser + "\n")},
		"etc/written": {mode: 0o666, data: []byte("by the image\n")},
	})
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, content)
	if err != nil {
		return nil, err
	}
	configFile, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	configFile = configFile.DeepCopy()
	configFile.Architecture, configFile.OS = runtime.GOARCH, "linux"
	configFile.Config = v1.Config{
		Env:         []string{imageEnv, "PATH=/image/bin"},
		Entrypoint:  []string{"/probe", "exit", "99"},
		Cmd:         []string{"98"},
		User:        "root",
		WorkingDir:  "/etc",
		StopSignal:  "SIGUSR1",
		Labels:      map[string]string{"ocmt.test": rand.Text()},
		Healthcheck: &v1.HealthConfig{Test: []string{"CMD", "/probe", "exit", "1"}},
	}
	return mutate.ConfigFile(img, configFile)
}

type file struct {
	mode int64
	data []byte
}

func layer(files map[string]file) (v1.Layer, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "etc/", Mode: 0o755}); err != nil {
		return nil, err
	}
	for path, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: path, Mode: f.mode, Size: int64(len(f.data))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(buf.Bytes())), nil
	})
}
