package e2e

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocmt/ocmt/e2e/harness"
)

// refusal of `ocmt serve`: how it ends and what it says.
type refused struct {
	args  []string
	env   []string
	code  int
	words []string
}

// TestServeRefuses has the daemon end with what to do next, before it made
// anything.
func TestServeRefuses(t *testing.T) {
	need(t)
	home := newHome(t)
	d := serve(t, home)
	t.Cleanup(func() { stop(t, d) })
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]refused{
		"a home that is taken":         {args: []string{"--home", home}, code: 1, words: []string{"already", "hint:"}},
		"a home that is a file":        {args: []string{"--home", file}, code: 4, words: []string{"cannot write", "hint:"}},
		"an engine that is none":       {args: []string{"--engine", "podman"}, code: 2, words: []string{"podman", "docker", "containerd"}},
		"a runtime that is none":       {args: []string{"--runtime", "nonesuch"}, code: 2, words: []string{"nonesuch", "runc", "hint:"}},
		"an image that is no digest":   {args: []string{"--base-image", "latest"}, code: 2, words: []string{"sha256"}},
		"an image that is not there":   {args: []string{"--base-image", "sha256:" + strings.Repeat("0", 64)}, code: 3, words: []string{"hint:"}},
		"a log level that is none":     {args: []string{"--log-level", "loud"}, code: 2, words: []string{"loud"}},
		"a socket that a daemon holds": {args: []string{"--socket", filepath.Join(home, "ocmt/run/admin.sock")}, code: 1, words: []string{"hint:"}},
	} {
		t.Run(name, func(t *testing.T) { tc.test(t) })
	}
}

// TestServeRefusesEngines points the daemon to what is not an engine that it
// can use. Each says where it looked and which variable says otherwise.
func TestServeRefusesEngines(t *testing.T) {
	engine := need(t)
	variable, prefix, tooOld := "DOCKER_HOST", "unix://", []string{"1.30", "20.10"}
	if engine.Name() == "containerd" {
		variable, prefix, tooOld = "CONTAINERD_ADDRESS", "", []string{"1.2.13", "1.6"}
	}
	answers := []string{"engine", variable, "hint:"}
	for name, tc := range map[string]struct {
		listen func(*testing.T) string
		code   int
		words  []string
	}{
		"no socket":                 {func(*testing.T) string { return "/nonexistent/engine.sock" }, 7, answers},
		"one that says nothing":     {listenSilent, 7, answers},
		"one that closes":           {listenClosing, 7, answers},
		"one that is a web server":  {func(t *testing.T) string { return listenHTTP(t, http.NotFoundHandler()) }, 7, answers},
		"a file that is no socket":  {notASocket, 7, answers},
		"an engine that is too old": {oldEngine(engine), 1, append(tooOld, "hint:")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // one of them takes as long as an engine may
			address := prefix + tc.listen(t)
			refused{env: []string{variable + "=" + address}, code: tc.code, words: append(tc.words, address)}.test(t)
		})
	}
}

func (r refused) test(t *testing.T) {
	t.Helper()
	home := newHome(t)
	args := append(append([]string{"serve", "--home", home}, harness.EngineFlags()...), r.args...)
	res := harness.Run(t.Context(), r.env, args...)
	t.Log(check(t, res, r.code, r.words, args...))
	if left, err := harness.Sockets(home); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}

// listen makes a unix socket.
func listen(t *testing.T) net.Listener {
	t.Helper()
	dir, err := os.MkdirTemp("", "engine") // shorter than the test's own
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "engine.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// listenSilent takes connections and never answers.
func listenSilent(t *testing.T) string { return listen(t).Addr().String() }

// listenClosing closes every connection after its first bytes.
func listenClosing(t *testing.T) string {
	l := listen(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 64)) // whatever it is
			c.Close()
		}
	}()
	return l.Addr().String()
}

func listenHTTP(t *testing.T, handler http.Handler) string {
	l := listen(t)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: handler, Protocols: &protocols}
	go func() { _ = server.Serve(l) }() // ends with the test
	t.Cleanup(func() { server.Close() })
	return l.Addr().String()
}

func notASocket(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "engine.sock")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// oldEngine answers as an engine of years ago does.
func oldEngine(engine harness.Engine) func(*testing.T) string {
	if engine.Name() == "containerd" {
		return oldContainerd
	}
	return func(t *testing.T) string {
		return listenHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Api-Version", "1.30")
			w.Header().Set("Server", "Docker/17.06.0-ce (linux)")
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"ApiVersion":"1.30","Version":"17.06.0-ce"}`)
		}))
	}
}

// oldContainerd knows its version and nothing else: it speaks gRPC, which is
// HTTP/2 with a length before each message and the status in a trailer.
func oldContainerd(t *testing.T) string {
	return listenHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		if r.URL.Path != "/containerd.services.version.v1.Version/Version" {
			w.Header().Set("Grpc-Status", "12") // unimplemented
			return
		}
		const version = "1.2.13"
		message := append([]byte{0x0a, byte(len(version))}, version...) // field 1, a string
		_, _ = w.Write(append([]byte{0, 0, 0, 0, byte(len(message))}, message...))
		w.Header().Set("Grpc-Status", "0")
	}))
}
