// Package docker runs sandboxes on a Docker engine, by its API from version
// 1.41 (Docker 20.10) on. It owns every use of the Docker client, and promises
// what [sandbox.Engine] says: errors carry an errdefs class, no call outlasts
// the configured timeout without a sign of life, and nothing is touched that
// does not carry our labels.
package docker

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"

	"github.com/ocmt/ocmt/sandbox"
)

// minAPI is the first version with private cgroup name spaces; Docker 20.10
// speaks it.
const minAPI = "1.41"

// defaultTimeout is ample for a loaded engine: the slowest call, creating a
// container, takes well under a second on an idle one.
const defaultTimeout = 30 * time.Second

// Options configure an engine.
type Options struct {
	// Host is the engine's address, as unix:///run/docker.sock. Empty is
	// $DOCKER_HOST (with $DOCKER_CERT_PATH), and else the first of the
	// system's socket and the user's own (rootless) that exists.
	Host string
	// Home, if set, is the value of sandbox.LabelHome that containers must
	// carry: those of other homes count as unknown. When it is empty, any
	// value will do.
	Home string
	// Dir is a directory that the engine sees by the same path, for trying out
	// what it can mount. Empty is os.TempDir.
	Dir string
	// NoTrial leaves that out, which takes a container's start: for callers that
	// mount images themselves. Info.ImageMounts is then false.
	NoTrial bool
	// Logger takes what has no caller to go to; nil discards it.
	Logger *slog.Logger
	// Timeout bounds each answer of the engine, and how long Wait puts up with
	// an engine that is being restarted. Zero is 30 s.
	Timeout time.Duration
}

// Engine is a Docker engine. Make it with [New].
type Engine struct {
	client  *client.Client
	home    string
	dir     string
	noTrial bool
	logger  *slog.Logger
	timeout time.Duration

	mu          sync.Mutex                   // held while images are tried to be mounted
	imageMounts *bool                        // whether EROFS images can be; nil until tried
	host        atomic.Pointer[sandbox.Info] // as last seen, for limits and runtimes
	manifests   sync.Map                     // of configuration digests to IDs that were checked
}

var _ sandbox.Engine = (*Engine)(nil)

// New connects to an engine: Unavailable when none answers, FailedPrecondition
// when it is too old.
func New(ctx context.Context, options Options) (*Engine, error) {
	e := &Engine{
		home:    options.Home,
		dir:     cmp.Or(options.Dir, os.TempDir()),
		noTrial: options.NoTrial,
		logger:  cmp.Or(options.Logger, slog.New(slog.DiscardHandler)),
		timeout: cmp.Or(options.Timeout, defaultTimeout),
	}
	address := []client.Opt{client.WithHost(options.Host)}
	if options.Host == "" {
		address = defaultAddress()
	}
	var err error
	e.client, err = client.NewClientWithOpts(append(address, client.WithAPIVersionNegotiation())...)
	if err != nil {
		return nil, fmt.Errorf("cannot use the docker host %q: %w: %w", options.Host, err, errdefs.ErrInvalidArgument)
	}
	if err := e.connect(ctx); err != nil {
		_ = e.Close()
		return nil, err
	}
	return e, nil
}

// defaultAddress prefers the environment over sockets that exist.
func defaultAddress() []client.Opt {
	if os.Getenv(client.EnvOverrideHost) != "" {
		return []client.Opt{client.WithTLSClientConfigFromEnv(), client.WithHostFromEnv()}
	}
	system := strings.TrimPrefix(client.DefaultDockerHost, "unix://")
	rootless := filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "docker.sock")
	for _, path := range []string{system, rootless} {
		if _, err := os.Stat(path); err == nil {
			return []client.Opt{client.WithHost("unix://" + path)}
		}
	}
	return []client.Opt{client.WithHost(client.DefaultDockerHost)}
}

// connect settles the API version.
func (e *Engine) connect(ctx context.Context) error {
	ctx, cancel := e.bound(ctx)
	defer cancel()
	ping, err := e.client.Ping(ctx)
	if err != nil && !errdefs.IsNotFound(err) {
		return e.fail(ctx, "reach docker at "+e.client.DaemonHost(), err)
	}
	if err != nil || ping.APIVersion == "" {
		return fmt.Errorf("cannot use %s: what answers there is not a docker engine: %w", e.client.DaemonHost(), errdefs.ErrUnavailable)
	}
	if versions.LessThan(ping.APIVersion, minAPI) {
		return fmt.Errorf("cannot use docker at %s: it speaks API %s, and %s is needed (docker 20.10 or newer): %w",
			e.client.DaemonHost(), ping.APIVersion, minAPI, errdefs.ErrFailedPrecondition)
	}
	e.client.NegotiateAPIVersionPing(ping)
	return nil
}

// Close frees idle connections.
func (e *Engine) Close() error { return e.client.Close() }

// Info describes the engine. Unless Options.NoTrial is set, the first call finds
// out whether EROFS images can be mounted, by starting a container that has one
// and nothing to run.
func (e *Engine) Info(ctx context.Context) (sandbox.Info, error) {
	if err := e.connect(ctx); err != nil {
		return sandbox.Info{}, err
	}
	host, err := e.systemInfo(ctx)
	if err != nil {
		return sandbox.Info{}, err
	}
	info := describe(host)
	seen := info
	e.host.Store(&seen)
	if e.noTrial {
		return info, nil
	}
	info.ImageMounts, err = e.canMountImages(ctx)
	if err != nil {
		info.Warnings = append(info.Warnings, fmt.Sprintf("it could not be found out whether the engine mounts EROFS images: %v", err))
	}
	return info, ctx.Err()
}

func (e *Engine) systemInfo(ctx context.Context) (system.Info, error) {
	ctx, cancel := e.bound(ctx)
	defer cancel()
	host, err := e.client.Info(ctx)
	return host, e.fail(ctx, "ask docker about itself", err)
}

// seen describes the engine's host as it was when it was first asked.
func (e *Engine) seen(ctx context.Context) (sandbox.Info, error) {
	if seen := e.host.Load(); seen != nil {
		return *seen, nil
	}
	host, err := e.systemInfo(ctx)
	if err != nil {
		return sandbox.Info{}, err
	}
	info := describe(host)
	e.host.Store(&info)
	return info, nil
}

// describe translates what needs no further question.
func describe(host system.Info) sandbox.Info {
	info := sandbox.Info{
		Name:     "docker",
		Version:  host.ServerVersion,
		Runtime:  host.DefaultRuntime,
		Runtimes: slices.Sorted(maps.Keys(host.Runtimes)),
		CgroupV2: host.CgroupVersion == "2",
		CPUs:     host.NCPU,
		Memory:   host.MemTotal,
	}
	options := map[string]bool{}
	for _, option := range host.SecurityOptions { // "name=seccomp,profile=default"
		name, _, _ := strings.Cut(option, ",")
		options[strings.TrimPrefix(name, "name=")] = true
	}
	info.Rootless, info.SELinux = options["rootless"], options["selinux"]
	if options["apparmor"] {
		info.AppArmor = "docker-default" // which it gives to whoever names none
	}
	weak := func(present bool, sentence string) {
		if !present {
			info.Warnings = append(info.Warnings, sentence)
		}
	}
	weak(options["seccomp"], "the kernel or the engine has no seccomp: containers will be refused")
	weak(host.MemoryLimit, "the engine cannot limit memory: containers will be refused")
	weak(host.PidsLimit, "the engine cannot limit processes: containers will be refused")
	weak(host.CPUCfsQuota, "the engine cannot limit cpu time: containers will be refused")
	weak(host.SwapLimit, "the kernel does not account swap: a container may use swap beyond its memory limit")
	return info
}
