// Package containerd runs sandboxes on containerd, from version 1.6 on, and on
// any OCI runtime that its shim for runc can start: runc itself, crun, and
// gVisor's runsc. It owns every use of containerd's client.
//
// Containers are kept in a namespace of containerd that is ours, told apart by
// their home label. What containerd does not keep is in files below
// [Options].Dir: when a container was started and how it ended, and what it
// printed. A container prints into FIFOs there, which its shim holds open, so
// that it outlives this process, and a later one that is given the same
// directory and home reads on.
//
// It promises what [sandbox.Engine] says: errors carry an errdefs class, no
// call outlasts the configured timeout without a sign of life, and nothing is
// touched that does not carry our labels.
package containerd

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/ocmt/ocmt/sandbox"
)

const (
	// namespace of containerd that our containers, images and snapshots are in.
	namespace = "ocmt"
	// snapshotter keeps the file systems of images and containers.
	snapshotter = "overlayfs"
	// defaultAddress is where distributions put containerd's socket.
	defaultAddress = "/run/containerd/containerd.sock"
	// defaultTimeout is ample for a loaded engine: the slowest call, creating
	// a task, takes a twentieth of a second on an idle one.
	defaultTimeout = 30 * time.Second
)

// The oldest version: the first whose API and shim are still supported.
const minMajor, minMinor = 1, 6

// Options configure an engine.
type Options struct {
	// Address is the path of containerd's socket. Empty is
	// $CONTAINERD_ADDRESS, and else /run/containerd/containerd.sock.
	Address string
	// Home, if set, is the value of sandbox.LabelHome that containers must
	// carry: those of other homes count as unknown, and the output of those
	// that run is read from now on. When it is empty, any value will do, and
	// nothing is taken over.
	Home string
	// Dir is an absolute directory for what belongs to containers and to
	// runtimes, made if need be. It must outlive this process, be on a file
	// system that programs may be run from, and be used by one engine at a
	// time that has a Home.
	Dir string
	// Logger takes what has no caller to go to; nil discards it.
	Logger *slog.Logger
	// Timeout bounds each answer of the engine, and how long Wait puts up with
	// an engine that is being restarted. Zero is 30 s.
	Timeout time.Duration
}

// Engine is a containerd. Make it with [New].
type Engine struct {
	client  *client.Client
	address string
	home    string
	dir     string
	logger  *slog.Logger
	timeout time.Duration
	host    host

	loading     sync.Mutex // held while an image is loaded
	images      sync.Map   // of configuration digests to what the engine has of them: snapshot names
	runtimes    sync.Map   // of names to runtimes that were found
	containers  locks      // by id: one Create, Start or Remove at a time
	changes     broadcast  // told when a container is started or removed
	mu          sync.Mutex // guards what follows
	outputs     map[string]*output
	imageMounts *bool // whether the kernel mounts EROFS image files; nil until tried
}

var _ sandbox.Engine = (*Engine)(nil)

// New connects to containerd: Unavailable when it does not answer,
// FailedPrecondition when it is too old. With a home, it goes on reading what
// the home's running containers print.
func New(ctx context.Context, options Options) (*Engine, error) {
	if !filepath.IsAbs(options.Dir) {
		return nil, fmt.Errorf("cannot use containerd: its directory %q must be an absolute path: %w", options.Dir, errdefs.ErrInvalidArgument)
	}
	e := &Engine{
		address: cmp.Or(options.Address, os.Getenv("CONTAINERD_ADDRESS"), defaultAddress),
		home:    options.Home,
		dir:     filepath.Clean(options.Dir),
		logger:  cmp.Or(options.Logger, slog.New(slog.DiscardHandler)),
		timeout: cmp.Or(options.Timeout, defaultTimeout),
		outputs: map[string]*output{},
	}
	e.address = strings.TrimPrefix(e.address, "unix://")
	e.host = inspectHost()
	if err := e.dial(ctx); err != nil {
		return nil, err
	}
	err := e.makeDirs()
	if err == nil {
		_, err = e.connect(ctx)
	}
	if err == nil && e.home != "" {
		err = e.takeOver(ctx)
	}
	if err != nil {
		_ = e.Close()
		return nil, err
	}
	return e, nil
}

// dial makes a client that returns to an engine soon after that did.
func (e *Engine) dial(ctx context.Context) error {
	ctx, cancel := e.bound(ctx)
	defer cancel()
	// The client's own errors do not tell why there is no connection.
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", e.address)
	if err != nil {
		return e.fail(ctx, "reach containerd at "+e.address, err)
	}
	conn.Close()
	pace := backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, Jitter: 0.2, MaxDelay: 500 * time.Millisecond}
	e.client, err = client.New(e.address,
		client.WithDefaultNamespace(namespace),
		client.WithDialOpts([]grpc.DialOption{
			grpc.WithTransportCredentials(insecure.NewCredentials()), // of a local socket
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: pace, MinConnectTimeout: e.timeout}),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", e.address)
			}),
		}))
	if err != nil {
		return fmt.Errorf("cannot use the containerd address %q: %w: %w", e.address, err, errdefs.ErrInvalidArgument)
	}
	return nil
}

// connect asks for the version.
func (e *Engine) connect(ctx context.Context) (version string, err error) {
	ctx, cancel := e.bound(ctx)
	defer cancel()
	answer, err := e.client.Version(ctx)
	switch {
	case errdefs.IsNotImplemented(native(err)):
		return "", fmt.Errorf("cannot use %s: what answers there is not containerd: %w", e.address, errdefs.ErrUnavailable)
	case err != nil:
		return "", e.fail(ctx, "reach containerd at "+e.address, err)
	}
	if !recent(answer.Version) {
		return "", fmt.Errorf("cannot use containerd at %s: it has version %q, and %d.%d or newer is needed: %w",
			e.address, answer.Version, minMajor, minMinor, errdefs.ErrFailedPrecondition)
	}
	return answer.Version, nil
}

var versionPattern = regexp.MustCompile(`^v?(\d{1,9})\.(\d{1,9})`)

// recent says that a version, as "1.6.20~ds1" or "v2.1.0", is new enough.
func recent(version string) bool {
	parts := versionPattern.FindStringSubmatch(version)
	if parts == nil {
		return false
	}
	major, _ := strconv.Atoi(parts[1])
	minor, _ := strconv.Atoi(parts[2])
	return major > minMajor || major == minMajor && minor >= minMinor
}

// Close ends the connection and the reading of what containers print: they go
// on, and keep up to a pipe's size of output for the next reader.
func (e *Engine) Close() error {
	e.mu.Lock()
	outputs := e.outputs
	e.outputs = map[string]*output{}
	e.mu.Unlock()
	for _, out := range outputs {
		out.close()
	}
	return e.client.Close()
}
