package engine

import (
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// answering serves HTTP on a unix socket, as something that speaks that version
// of Docker's API, or none if it is empty.
func answering(t *testing.T, version string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "engine.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if version == "" {
			http.NotFound(w, nil)
			return
		}
		w.Header().Set("API-Version", version)
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return path
}

func TestOpenRefuses(t *testing.T) {
	nothing := filepath.Join(t.TempDir(), "nothing.sock")
	tests := []struct {
		name               string
		docker, containerd string
		opts               Options
		is                 func(error) bool
		code               string
		words              []string // of the message and the hint
	}{
		{"an unknown engine", nothing, nothing, Options{Name: "podman"}, errdefs.IsInvalidArgument, "unknown_engine", []string{"podman", "auto, docker, containerd"}},
		{"none answers", nothing, nothing, Options{}, errdefs.IsUnavailable, "engine_unavailable", []string{"docker: ", "containerd: ", "DOCKER_HOST", "CONTAINERD_ADDRESS", "apt-get install"}},
		{"Docker does not answer", nothing, nothing, Options{Name: Docker}, errdefs.IsUnavailable, "engine_unavailable", []string{"DOCKER_HOST", "20.10"}},
		{"containerd does not answer", nothing, nothing, Options{Name: Containerd}, errdefs.IsUnavailable, "engine_unavailable", []string{"CONTAINERD_ADDRESS", "1.6"}},
		{"the home's own does not answer", nothing, nothing, Options{Last: Containerd}, errdefs.IsUnavailable, "engine_unavailable", []string{"ran on containerd", "--engine"}},
		{"Docker is too old", answering(t, "1.40"), nothing, Options{Name: Docker}, errdefs.IsFailedPrecondition, "engine_too_old", []string{"1.40", "1.41", "20.10"}},
		{"the one that is there is too old", answering(t, "1.40"), nothing, Options{}, errdefs.IsFailedPrecondition, "engine_too_old", []string{"1.40", "20.10"}},
		{"no engine's socket", answering(t, ""), nothing, Options{Name: Docker}, errdefs.IsUnavailable, "engine_unavailable", []string{"not a docker engine", "DOCKER_HOST"}},
		{"no containerd's socket", nothing, answering(t, "1.41"), Options{Name: Containerd}, errdefs.IsUnavailable, "engine_unavailable", []string{"CONTAINERD_ADDRESS"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("DOCKER_HOST", "unix://"+tt.docker)
			t.Setenv("CONTAINERD_ADDRESS", tt.containerd)
			tt.opts.Dir, tt.opts.Logger = t.TempDir(), slog.New(slog.DiscardHandler)
			_, _, err := Open(t.Context(), tt.opts)
			f := fault.Of(err)
			if err == nil || !tt.is(err) || f.Code != tt.code {
				t.Fatalf("error %v with code %q, want %q", err, f.Code, tt.code)
			}
			for _, w := range tt.words {
				if !strings.Contains(f.Message+" "+f.Hint, w) {
					t.Errorf("%q, hint %q: does not say %q", f.Message, f.Hint, w)
				}
			}
		})
	}
}
