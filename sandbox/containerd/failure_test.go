package containerd

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/api/services/containers/v1"
	"github.com/containerd/containerd/api/services/version/v1"
	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/sandboxtest"
)

// socket listens on a unix socket and returns its path.
func socket(t *testing.T) (net.Listener, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener, path
}

// answers serves every connection with the same bytes; with none, it never
// answers.
func answers(t *testing.T, text string) string {
	t.Helper()
	listener, path := socket(t)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
			if text != "" {
				_, _ = io.WriteString(conn, text)
				_ = conn.Close()
			}
		}
	}()
	return path
}

type versionServer struct {
	version.UnimplementedVersionServer
	version string
}

func (v versionServer) Version(context.Context, *emptypb.Empty) (*version.VersionResponse, error) {
	return &version.VersionResponse{Version: v.version}, nil
}

// serve is a server that tells a version, unless it is empty; what else it
// does is up to register.
func serve(t *testing.T, told string, register func(*grpc.Server), options ...grpc.ServerOption) string {
	t.Helper()
	listener, path := socket(t)
	server := grpc.NewServer(options...)
	if told != "" {
		version.RegisterVersionServer(server, versionServer{version: told})
	}
	if register != nil {
		register(server)
	}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return path
}

func TestNewWithoutAnEngine(t *testing.T) {
	for name, c := range map[string]struct {
		address string
		is      func(error) bool
		says    string
	}{
		"no socket":         {filepath.Join(t.TempDir(), "none"), errdefs.IsUnavailable, "cannot reach containerd at /"},
		"hangs":             {answers(t, ""), errdefs.IsUnavailable, "did not answer within 200ms"},
		"garbage":           {answers(t, "220 mail.example ESMTP\r\n"), errdefs.IsUnavailable, "cannot reach containerd at /"},
		"hangs up":          {answers(t, "\x00"), errdefs.IsUnavailable, "cannot reach containerd at /"},
		"http":              {answers(t, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"), errdefs.IsUnavailable, "cannot reach containerd at /"},
		"other server":      {serve(t, "", nil), errdefs.IsUnavailable, "not containerd"},
		"too old":           {serve(t, "1.5.18", nil), errdefs.IsFailedPrecondition, `has version "1.5.18", and 1.6 or newer is needed`},
		"of unknown age":    {serve(t, "unknown", nil), errdefs.IsFailedPrecondition, `has version "unknown", and 1.6 or newer is needed`},
		"no socket, as URL": {"unix:///nowhere/containerd.sock", errdefs.IsUnavailable, "cannot reach containerd at /nowhere/containerd.sock"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(t.Context(), Options{Address: c.address, Dir: t.TempDir(), Timeout: 200 * time.Millisecond})
			if err == nil || !c.is(err) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v of class %v, want one that says %q", err, errdefs.Resolve(err), c.says)
			}
		})
	}
}

func TestNewWithoutADirectory(t *testing.T) {
	for _, dir := range []string{"", "here"} {
		if _, err := New(t.Context(), Options{Dir: dir}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", dir, err)
		}
	}
}

func TestNewHonoursItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New(ctx, Options{Address: answers(t, ""), Dir: t.TempDir()}); !errdefs.IsCanceled(err) {
		t.Errorf("cancelled: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := New(ctx, Options{Address: answers(t, ""), Dir: t.TempDir()}); !errdefs.IsDeadlineExceeded(err) {
		t.Errorf("deadline of the caller: %v", err)
	}
}

func TestRecent(t *testing.T) {
	for version, want := range map[string]bool{
		"1.6.20~ds1": true, "v2.1.4": true, "1.7.0-beta.1": true, "10.0.0": true, "v2.0.0+unknown": true, "1.6": true,
		"1.5.99": false, "0.9.0": false, "": false, "dev": false, "1": false, "1.x": false, "99999999999999999999.1": false,
	} {
		if got := recent(version); got != want {
			t.Errorf("recent(%q) = %v", version, got)
		}
	}
}

// TestHangingEngine calls every method of an engine that tells its version and
// then nothing.
func TestHangingEngine(t *testing.T) {
	released := make(chan struct{})
	hang := grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
		<-released
		return nil
	})
	address := serve(t, "1.7.0", nil, hang)
	t.Cleanup(func() { close(released) }) // before the server stops, which waits for it
	e, err := New(t.Context(), Options{Address: address, Dir: t.TempDir(), Timeout: 150 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	e.runtimes.Store(defaultRuntime, ociRuntime{program: "/bin/false"})
	ctx := t.Context()
	img := sandboxtest.TinyImage(t)
	for name, call := range map[string]func() error{
		"EnsureImage": func() error { return e.EnsureImage(ctx, img, nil) },
		"Create":      func() error { return e.Create(ctx, validSpec(img.Digest)) },
		"Start":       func() error { return e.Start(ctx, "some") },
		"Wait":        func() error { _, err := e.Wait(ctx, "some"); return err },
		"Stop":        func() error { return e.Stop(ctx, "some", time.Second) },
		"Remove":      func() error { return e.Remove(ctx, "some") },
		"List":        func() error { _, err := e.List(ctx, map[string]string{sandbox.LabelHome: "h"}); return err },
		"Logs":        func() error { return e.Logs(ctx, "some", sandbox.LogOptions{}, io.Discard) },
		"New with a home": func() error {
			_, err := New(ctx, Options{Address: address, Dir: t.TempDir(), Home: "h", Timeout: 150 * time.Millisecond})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			err := call()
			if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "did not answer within 150ms") {
				t.Errorf("error %v", err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

// failing answers every question about containers with an error.
type failing struct {
	containers.UnimplementedContainersServer
	code codes.Code
}

func (f failing) Get(context.Context, *containers.GetContainerRequest) (*containers.GetContainerResponse, error) {
	return nil, status.Error(f.code, "because")
}

func TestErrorClasses(t *testing.T) {
	for code, is := range map[codes.Code]func(error) bool{
		codes.NotFound:           errdefs.IsNotFound,
		codes.AlreadyExists:      errdefs.IsAlreadyExists,
		codes.FailedPrecondition: errdefs.IsFailedPrecondition,
		codes.PermissionDenied:   errdefs.IsPermissionDenied,
		codes.Unavailable:        errdefs.IsUnavailable,
		codes.Canceled:           errdefs.IsUnavailable, // not by us
		codes.Unknown:            errdefs.IsInternal,
		codes.Internal:           errdefs.IsInternal,
	} {
		address := serve(t, "2.1.0", func(s *grpc.Server) {
			containers.RegisterContainersServer(s, failing{code: code})
		})
		e, err := New(t.Context(), Options{Address: address, Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Close() })
		err = e.Start(t.Context(), "some")
		if !is(err) || !strings.Contains(err.Error(), "cannot find container some") {
			t.Errorf("%s: error %v of class %v", code, err, errdefs.Resolve(err))
		}
	}
}

// TestLocks holds a lock that others wait for, or give up waiting for.
func TestLocks(t *testing.T) {
	var l locks
	release, err := l.hold(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	other, err := l.hold(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	other()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.hold(ctx, "a"); !errdefs.IsCanceled(err) {
		t.Errorf("held: %v", err)
	}
	got := make(chan error)
	go func() {
		release, err := l.hold(t.Context(), "a")
		if err == nil {
			release()
		}
		got <- err
	}()
	release()
	if err := <-got; err != nil {
		t.Errorf("after the release: %v", err)
	}
	if len(l.held) != 0 {
		t.Errorf("%d locks are held still", len(l.held))
	}
}

func validSpec(digest string) sandbox.Spec {
	id := fmt.Sprintf("ocmt-test-%d", time.Now().UnixNano())
	return sandbox.Harden(sandbox.Spec{
		ID: id, Image: digest, Args: []string{"/probe"}, Env: []string{"HOME=/"}, UID: 20001, GID: 20002,
		Labels: map[string]string{
			sandbox.LabelHome: id, sandbox.LabelTenant: "default",
			sandbox.LabelInstance: id, sandbox.LabelRole: sandbox.RoleCheck,
		},
		Limits: sandbox.LimitsFor(sandbox.RoleClean),
	})
}
