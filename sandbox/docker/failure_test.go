package docker

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/sandboxtest"
)

// socket listens on a unix socket and returns its address as a Docker host.
func socket(t *testing.T) (net.Listener, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener, "unix://" + path
}

// answers serves every connection with the same bytes; with none, it never
// answers.
func answers(t *testing.T, text string) string {
	t.Helper()
	listener, host := socket(t)
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
	return host
}

// serve is an HTTP server that speaks as an engine of an API version does;
// the keys of routes are methods and paths without the version.
func serve(t *testing.T, api string, routes map[string]http.HandlerFunc) string {
	t.Helper()
	listener, host := socket(t)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if api != "" {
			w.Header().Set("Api-Version", api)
		}
		if r.URL.Path == "/_ping" {
			return
		}
		path := strings.TrimPrefix(r.URL.Path, "/v"+api)
		if route := routes[r.Method+" "+path]; route != nil {
			route(w, r)
			return
		}
		reply(w, http.StatusNotFound, map[string]string{"message": "no such " + path})
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return host
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func replies(status int, body any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { reply(w, status, body) }
}

func TestNewWithoutAnEngine(t *testing.T) {
	for name, c := range map[string]struct {
		host string
		is   func(error) bool
		says string
	}{
		"no socket":      {"unix://" + filepath.Join(t.TempDir(), "none"), errdefs.IsUnavailable, "cannot reach docker at unix://"},
		"hangs":          {answers(t, ""), errdefs.IsUnavailable, "did not answer within 200ms"},
		"garbage":        {answers(t, "220 mail.example ESMTP\r\n"), errdefs.IsUnavailable, "cannot reach docker at unix://"},
		"hangs up":       {answers(t, "HTTP/1.1 200 OK\r\nContent-Le"), errdefs.IsUnavailable, "cannot reach docker at unix://"},
		"other server":   {serve(t, "", nil), errdefs.IsUnavailable, "not a docker engine"},
		"too old":        {serve(t, "1.30", nil), errdefs.IsFailedPrecondition, "speaks API 1.30, and 1.41 is needed (docker 20.10 or newer)"},
		"no host at all": {"nonsense", errdefs.IsInvalidArgument, "cannot use the docker host"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(t.Context(), Options{Host: c.host, Timeout: 200 * time.Millisecond})
			if err == nil || !c.is(err) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v of class %v, want one that says %q", err, errdefs.Resolve(err), c.says)
			}
		})
	}
}

func TestNewHonoursItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New(ctx, Options{Host: answers(t, "")}); !errdefs.IsCanceled(err) {
		t.Errorf("cancelled: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := New(ctx, Options{Host: answers(t, "")}); !errdefs.IsDeadlineExceeded(err) {
		t.Errorf("deadline of the caller: %v", err)
	}
}

// TestHangingEngine calls every method of an engine that answers the ping and
// then nothing.
func TestHangingEngine(t *testing.T) {
	released := make(chan struct{})
	t.Cleanup(func() { close(released) })
	listener, host := socket(t)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		if r.URL.Path != "/_ping" {
			<-released
		}
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	e, err := New(t.Context(), Options{Host: host, Timeout: 150 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	img := sandboxtest.TinyImage(t)
	for name, call := range map[string]func() error{
		"Info":        func() error { _, err := e.Info(ctx); return err },
		"EnsureImage": func() error { return e.EnsureImage(ctx, img, nil) },
		"Create":      func() error { return e.Create(ctx, validSpec(img.Digest)) },
		"Start":       func() error { return e.Start(ctx, "some") },
		"Wait":        func() error { _, err := e.Wait(ctx, "some"); return err },
		"Stop":        func() error { return e.Stop(ctx, "some", time.Second) },
		"Remove":      func() error { return e.Remove(ctx, "some") },
		"List":        func() error { _, err := e.List(ctx, map[string]string{sandbox.LabelHome: "h"}); return err },
		"Logs":        func() error { return e.Logs(ctx, "some", sandbox.LogOptions{}, io.Discard) },
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

func TestErrorClasses(t *testing.T) {
	for status, is := range map[int]func(error) bool{
		http.StatusBadRequest:          errdefs.IsInvalidArgument,
		http.StatusForbidden:           errdefs.IsPermissionDenied,
		http.StatusNotFound:            errdefs.IsNotFound,
		http.StatusConflict:            errdefs.IsConflict,
		http.StatusInternalServerError: errdefs.IsInternal,
		http.StatusServiceUnavailable:  errdefs.IsUnavailable,
	} {
		host := serve(t, "1.41", map[string]http.HandlerFunc{
			"GET /containers/json": replies(status, map[string]string{"message": "because"}),
		})
		e, err := New(t.Context(), Options{Host: host})
		if err != nil {
			t.Fatal(err)
		}
		_, err = e.List(t.Context(), map[string]string{sandbox.LabelHome: "h"})
		if !is(err) || !strings.Contains(err.Error(), "cannot list containers: because") {
			t.Errorf("%d: error %v of class %v", status, err, errdefs.Resolve(err))
		}
	}
}

func TestAnswerThatIsNoJSON(t *testing.T) {
	host := serve(t, "1.41", map[string]http.HandlerFunc{
		"GET /containers/json": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
	})
	e, err := New(t.Context(), Options{Host: host})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.List(t.Context(), map[string]string{sandbox.LabelHome: "h"}); !errdefs.IsUnavailable(err) {
		t.Errorf("error %v", err)
	}
}

// TestIgnoredLimit has an engine that makes containers without the limit: they
// must not stay.
func TestIgnoredLimit(t *testing.T) {
	var removed []string
	host := serve(t, "1.41", map[string]http.HandlerFunc{
		"GET /info":                              replies(http.StatusOK, map[string]any{"NCPU": 4, "MemTotal": 8 << 30}),
		"GET /images/" + digestOf(nil) + "/json": replies(http.StatusOK, map[string]any{"Id": digestOf(nil)}),
		"POST /containers/create": replies(http.StatusCreated, container.CreateResponse{
			ID: "abc", Warnings: []string{"Your kernel does not support pids limit capabilities. PIDs limit discarded."},
		}),
		"DELETE /containers/abc": func(w http.ResponseWriter, _ *http.Request) {
			removed = append(removed, "abc")
			w.WriteHeader(http.StatusNoContent)
		},
	})
	e, err := New(t.Context(), Options{Host: host})
	if err != nil {
		t.Fatal(err)
	}
	err = e.Create(t.Context(), validSpec(digestOf(nil)))
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "PIDs limit discarded") {
		t.Errorf("error %v", err)
	}
	if len(removed) != 1 {
		t.Errorf("removed %q", removed)
	}
}

func TestLoadFailures(t *testing.T) {
	img := sandboxtest.TinyImage(t)
	for name, c := range map[string]struct {
		report string
		is     func(error) bool
		says   string
	}{
		"disk full":    {`{"error":"no space left on device"}`, errdefs.IsInternal, "no space left on device"},
		"nothing came": {`{"stream":"Loading layer"}`, errdefs.IsFailedPrecondition, "after loading it"},
		"broken off":   {`{"stream":`, errdefs.IsUnavailable, "cannot load image"},
	} {
		t.Run(name, func(t *testing.T) {
			host := serve(t, "1.41", map[string]http.HandlerFunc{
				"POST /images/load": func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					_, _ = io.WriteString(w, c.report)
				},
			})
			e, err := New(t.Context(), Options{Host: host})
			if err != nil {
				t.Fatal(err)
			}
			if err := e.EnsureImage(t.Context(), img, nil); !c.is(err) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v of class %v", err, errdefs.Resolve(err))
			}
		})
	}
}

func TestImageWithVolumes(t *testing.T) {
	img := sandboxtest.TinyImage(t)
	host := serve(t, "1.41", map[string]http.HandlerFunc{
		"GET /images/" + img.Digest + "/json": replies(http.StatusOK, map[string]any{
			"Id": img.Digest, "Config": map[string]any{"Volumes": map[string]any{"/data": map[string]any{}}},
		}),
	})
	e, err := New(t.Context(), Options{Host: host})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.EnsureImage(t.Context(), img, nil); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("error %v", err)
	}
}

func FuzzReadLoad(f *testing.F) {
	f.Add(`{"stream":"Loaded image: a:b\n"}`)
	f.Add(`{"error":"x"}{"stream":1}`)
	f.Fuzz(func(t *testing.T, report string) {
		loaded, err := readLoad(strings.NewReader(report), func() {})
		if err != nil && loaded != "" {
			t.Errorf("%q with error %v", loaded, err)
		}
	})
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
