package docker

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/volume"

	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/sandboxtest"
)

// probe loads the probe's image and returns a spec that runs it.
func probe(t *testing.T, e *Engine, args ...string) sandbox.Spec {
	t.Helper()
	img := sandboxtest.ProbeImage(t)
	var sent int64
	if err := e.EnsureImage(t.Context(), img, func(n int64) { sent = n }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeImage(t, e, img.Digest) })
	if sent != img.Size {
		t.Errorf("progress told of %d bytes, the archive has %d", sent, img.Size)
	}
	spec := validSpec(img.Digest)
	spec.Args = append(spec.Args, args...)
	return spec
}

// TestHostConfig looks at what the engine recorded: what the probe cannot see
// from inside.
func TestHostConfig(t *testing.T) {
	e := engine(t)
	spec := probe(t, e, "exit", "0")
	if err := e.Create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	defer remove(t, e, spec.ID)
	c, err := e.client.ContainerInspect(t.Context(), spec.ID)
	if err != nil {
		t.Fatal(err)
	}
	host := c.HostConfig
	if host.RestartPolicy.Name != container.RestartPolicyDisabled || host.AutoRemove || host.Privileged || host.PublishAllPorts {
		t.Errorf("restart %q, auto-remove %v, privileged %v", host.RestartPolicy.Name, host.AutoRemove, host.Privileged)
	}
	if host.Init == nil || *host.Init {
		t.Error("the engine's init is not off")
	}
	if host.Memory != spec.Limits.Memory || host.MemorySwap != host.Memory || *host.PidsLimit != spec.Limits.PIDs || host.NanoCPUs != 5e8 {
		t.Errorf("resources %+v", host.Resources)
	}
	if log := host.LogConfig; log.Type != "json-file" || log.Config["max-file"] != "2" || log.Config["max-size"] == "" {
		t.Errorf("log %+v", log)
	}
	if len(c.Config.Healthcheck.Test) != 1 || c.Config.Healthcheck.Test[0] != "NONE" || c.Config.StopSignal != "SIGTERM" {
		t.Errorf("health check %+v, stop signal %s", c.Config.Healthcheck, c.Config.StopSignal)
	}
	if len(c.Mounts) != 0 || len(host.PortBindings) != 0 || host.NetworkMode != "none" {
		t.Errorf("mounts %+v, ports %+v, network %s", c.Mounts, host.PortBindings, host.NetworkMode)
	}
}

func TestRuntimes(t *testing.T) {
	e := engine(t)
	spec := probe(t, e, "exit", "3")
	spec.Runtime = "no-such-runtime"
	err := e.Create(t.Context(), spec)
	if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), `cannot use runtime "no-such-runtime": the engine knows `) || !strings.Contains(err.Error(), "runc") {
		t.Errorf("error %v", err)
	}
	spec.Runtime = "runc"
	if err := e.Create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	remove(t, e, spec.ID)
}

// TestStrangers leaves alone what is not ours: containers without our label,
// and those of another home.
func TestStrangers(t *testing.T) {
	e := engine(t)
	spec := probe(t, e, "sleep", "0")
	created, err := e.client.ContainerCreate(t.Context(), &container.Config{
		Image: spec.Image, Entrypoint: []string{"/probe", "sleep", "0"},
	}, &container.HostConfig{NetworkMode: "none"}, nil, nil, spec.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.client.ContainerRemove(t.Context(), created.ID, container.RemoveOptions{Force: true}) }()
	wantUntouched(t, e, spec)
	if err := e.client.ContainerRemove(t.Context(), created.ID, container.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}

	if err := e.Create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	defer remove(t, e, spec.ID)
	other, err := New(t.Context(), Options{Home: "another"})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	wantUntouched(t, other, spec)
}

func wantUntouched(t *testing.T, e *Engine, spec sandbox.Spec) {
	t.Helper()
	if err := e.Start(t.Context(), spec.ID); !errdefs.IsNotFound(err) {
		t.Errorf("Start: %v", err)
	}
	if _, err := e.Wait(t.Context(), spec.ID); !errdefs.IsNotFound(err) {
		t.Errorf("Wait: %v", err)
	}
	if err := e.Logs(t.Context(), spec.ID, sandbox.LogOptions{}, io.Discard); !errdefs.IsNotFound(err) {
		t.Errorf("Logs: %v", err)
	}
	if err := e.Remove(t.Context(), spec.ID); err != nil {
		t.Errorf("Remove: %v", err)
	}
	if err := e.Create(t.Context(), spec); !errdefs.IsAlreadyExists(err) {
		t.Errorf("Create: %v", err)
	}
	if _, err := e.client.ContainerInspect(t.Context(), spec.ID); err != nil {
		t.Errorf("the container is gone: %v", err)
	}
}

// TestImageVolumes follows the volumes of image mounts: they go with the
// container, or when it cannot be made, and a file that is no image is an
// error of Start.
func TestImageVolumes(t *testing.T) {
	e := engine(t)
	spec := probe(t, e, "exit", "0")
	source := filepath.Join(tempDir(t), "payload")
	if err := writeEmptyImage(source); err != nil {
		t.Fatal(err)
	}
	spec.Mounts = []sandbox.Mount{{Source: source, Target: "/plugin", ReadOnly: true, Image: true}}
	if err := e.Create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if err := e.Create(t.Context(), spec); !errdefs.IsAlreadyExists(err) {
		t.Errorf("second Create: %v", err)
	}
	if got := volumes(t, e, spec.ID); got != 1 {
		t.Errorf("%d volumes after a second Create, want the first one's", got)
	}
	remove(t, e, spec.ID)
	if got := volumes(t, e, spec.ID); got != 0 {
		t.Errorf("%d volumes after Remove", got)
	}

	spec.Mounts[0].Source = "/proc/self/exe"
	if err := e.Create(t.Context(), spec); !errdefs.IsInvalidArgument(err) {
		t.Errorf("Create with a source in /proc: %v", err)
	}
	noImage := filepath.Join(tempDir(t), "text")
	writeText(t, noImage)
	spec.Mounts[0].Source = noImage
	if err := e.Create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	err := e.Start(t.Context(), spec.ID)
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "EROFS") {
		t.Errorf("Start with a file that is no image: %v", err)
	}
	remove(t, e, spec.ID)
	if got := volumes(t, e, spec.ID); got != 0 {
		t.Errorf("%d volumes left", got)
	}
}

func TestInfo(t *testing.T) {
	e := engine(t)
	info, err := e.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.Name != "docker" || info.Version == "" || info.Runtime == "" || len(info.Runtimes) == 0 || info.CPUs == 0 || info.Memory == 0 || info.MountFlags {
		t.Errorf("info %+v", info)
	}
	all, err := e.client.VolumeList(t.Context(), volume.ListOptions{Filters: filters.NewArgs(filters.Arg("name", "ocmt-trial-"))})
	if err != nil || len(all.Volumes) != 0 {
		t.Errorf("the trial left %d volumes, %v", len(all.Volumes), err)
	}
	left, err := e.client.ContainerList(t.Context(), container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("name", "ocmt-trial-"))})
	if err != nil || len(left) != 0 {
		t.Errorf("the trial left containers %+v, %v", left, err)
	}
}

// TestEngineGoesAway cuts every connection to the engine while Wait waits, and
// lets it come back, or not.
func TestEngineGoesAway(t *testing.T) {
	direct := engine(t)
	spec := probe(t, direct, "sleep", "9")
	p := newProxy(t, strings.TrimPrefix(direct.client.DaemonHost(), "unix://"))
	e, err := New(t.Context(), Options{Host: p.host, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	defer remove(t, direct, spec.ID)
	if err := e.Start(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
	exits := make(chan sandbox.Exit, 1)
	go func() {
		exit, err := e.Wait(t.Context(), spec.ID)
		if err != nil {
			t.Errorf("Wait: %v", err)
		}
		exits <- exit
	}()
	p.awaitWait(t)
	p.cut(true)
	if err := direct.Stop(t.Context(), spec.ID, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	p.cut(false)
	if exit := <-exits; exit.Code != 9 && exit.Code != 137 { // 137: SIGTERM came before its handler
		t.Errorf("exit %+v", exit)
	}
	p.cut(true)
	if _, err := e.Wait(t.Context(), spec.ID); !errdefs.IsUnavailable(err) {
		t.Errorf("Wait without an engine: %v", err)
	}
}

// proxy stands between a client and the engine's socket.
type proxy struct {
	host, target string
	waiting      chan struct{} // a wait request passed

	mu    sync.Mutex
	down  bool
	conns []net.Conn
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	listener, host := socket(t)
	p := &proxy{host: host, target: target, waiting: make(chan struct{}, 16)}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go p.pass(conn)
		}
	}()
	t.Cleanup(func() { p.cut(true) })
	return p
}

func (p *proxy) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("unix", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	p.mu.Lock()
	if p.down {
		p.mu.Unlock()
		return
	}
	p.conns = append(p.conns, client, server)
	p.mu.Unlock()
	go func() { _, _ = io.Copy(server, io.TeeReader(client, p)) }()
	_, _ = io.Copy(client, server)
}

// Write sees the requests.
func (p *proxy) Write(b []byte) (int, error) {
	if strings.Contains(string(b), "/wait?") {
		p.waiting <- struct{}{}
	}
	return len(b), nil
}

func (p *proxy) awaitWait(t *testing.T) {
	t.Helper()
	select {
	case <-p.waiting:
	case <-time.After(30 * time.Second):
		t.Fatal("no wait request came")
	}
}

func (p *proxy) cut(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
	for _, conn := range p.conns {
		_ = conn.Close()
	}
	p.conns = nil
}

func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func writeText(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Repeat("no image\n", 1000)), 0o644); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, e *Engine, id string) {
	t.Helper()
	if err := e.Remove(t.Context(), id); err != nil {
		t.Errorf("Remove: %v", err)
	}
}

func volumes(t *testing.T, e *Engine, id string) int {
	t.Helper()
	all, err := e.client.VolumeList(t.Context(), volume.ListOptions{Filters: filters.NewArgs(filters.Arg("label", labelContainer+"="+id))})
	if err != nil {
		t.Fatal(err)
	}
	return len(all.Volumes)
}
