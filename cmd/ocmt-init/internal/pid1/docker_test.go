package pid1_test

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ocmt/ocmt/sandbox/egress"
)

// needDocker skips without an engine, unless one is required.
func needDocker(t *testing.T) {
	t.Helper()
	out, err := exec.Command("docker", "version", "--format", "{{.Server.Version}}").CombinedOutput()
	if err == nil {
		return
	}
	if strings.Contains(os.Getenv("E2E_REQUIRE"), "docker") {
		t.Fatalf("no Docker engine answers: %v: %s", err, out)
	}
	t.Skipf("no Docker engine answers: %v", err)
}

// testImage imports an image of ocmt-init and the client alone, and returns
// its id.
func testImage(t *testing.T) string {
	t.Helper()
	build(t)
	var image bytes.Buffer
	w := tar.NewWriter(&image)
	for _, dir := range []string{"ocmt/", "run/", "run/ocmt/", "state/", "proc/", "dev/", "sys/", "etc/"} {
		must(t, w.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755}))
	}
	for name, source := range map[string]string{"ocmt/init": binaries.init, "client": binaries.client} {
		data, err := os.ReadFile(source)
		must(t, err)
		must(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(data))}))
		_, err = w.Write(data)
		must(t, err)
	}
	must(t, w.Close())
	cmd := exec.Command("docker", "import", "-")
	cmd.Stdin = &image
	id := strings.TrimSpace(output(t, cmd))
	t.Cleanup(func() { output(t, exec.Command("docker", "rmi", "-f", id)) })
	return id
}

func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v: %s", cmd.Args, err, stderr.String())
	}
	return string(out)
}

// oneAddress resolves every name to one public address.
type oneAddress struct{}

func (oneAddress) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("93.184.216.34")}, nil
}

// socketDir serves a broker in a directory laid out as for a plugin. Unless it
// is nil, denied is told what was denied.
func socketDir(t *testing.T, denied func(*egress.Broker, egress.Connection), rules ...egress.Rule) string {
	t.Helper()
	upstream, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { upstream.Close() })
	go func() {
		for {
			conn, err := upstream.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	var broker *egress.Broker
	broker, err = egress.NewBroker(egress.Options{
		Record: func(c egress.Connection) error {
			t.Logf("recorded %+v", c)
			if c.Phase == egress.PhaseDenied && denied != nil {
				denied(broker, c)
			}
			return nil
		},
		Resolver: oneAddress{},
		Dial: func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", upstream.Addr().String())
		},
	})
	must(t, err)
	setPolicy(t, broker, rules...)
	dir, err := os.MkdirTemp("", "ocmt")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o711))
	ln, err := egress.Listen(filepath.Join(dir, "egress.sock"))
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- broker.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return dir
}

func setPolicy(t *testing.T, broker *egress.Broker, rules ...egress.Rule) {
	t.Helper()
	policy, err := egress.NewPolicy(rules...)
	must(t, err)
	broker.SetPolicy(policy)
}

// runContainer runs ocmt-init with a program, without network, rights or a
// writable file.
func runContainer(t *testing.T, image string, options []string, program ...string) (code int, stdout, stderr string) {
	t.Helper()
	args := append([]string{"run", "--rm", "--network", "none", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
		"--read-only", "--user", strconv.Itoa(plugin) + ":" + strconv.Itoa(plugin), "--memory", "64m"}, options...)
	args = append(args, image, "/ocmt/init", "run", "--")
	return finish(t, exec.Command("docker", append(args, program...)...))
}

// TestContainer is egress as a plugin sees it: the granted destination works
// and nothing else does.
func TestContainer(t *testing.T) {
	needDocker(t)
	image := testImage(t)
	const name = "api.example.test"
	dir := socketDir(t, nil,
		egress.Rule{Host: name, Port: 80, Plaintext: true},
		egress.Rule{Host: "secure.example.test", Port: 443},
		egress.Rule{Host: "*.wild.test", Port: 80, Plaintext: true},
		egress.Rule{Host: "localhost", Port: 4873, Plaintext: true, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	code, stdout, stderr := runContainer(t, image,
		[]string{"--volume", dir + ":/run/ocmt:ro", "--tmpfs", "/state:uid=65532,noexec", "--env", "OCMT_PLUGIN=weather", "--env", "OCMT_TENANT=acme"},
		"/client", name+":80", strings.ToUpper(name)+":80", name+":81", "other.example.test:80", "93.184.216.34:80",
		"169.254.169.254:80", "secure.example.test:443", "127.0.0.1:4873",
		"localhost:4873", "localhost:4874", "a.wild.test:80", "a.wild.test:81", "wild.test:80", "a.b.wild.test:80", "status")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	got := strings.Split(strings.TrimSpace(stdout), "\n")
	want := []string{
		name + ":80: echo",
		strings.ToUpper(name) + ":80: echo",
		name + ":81: refused",
		"other.example.test:80: no such name",
		"93.184.216.34:80: unreachable",
		"169.254.169.254:80: unreachable",
		`secure.example.test:443: got "", <nil>`, // no TLS: cut off
		"127.0.0.1:4873: echo",
		"localhost:4873: echo",
		"localhost:4874: refused",
		"a.wild.test:80: echo",
		"a.wild.test:81: refused",
		"wild.test:80: no such name",
		"a.b.wild.test:80: no such name",
	}
	for i, line := range want {
		if i >= len(got) || got[i] != line {
			t.Fatalf("printed\n%s\nwant\n%s", stdout, strings.Join(want, "\n"))
		}
	}
	if !strings.HasSuffix(stderr, "ocmt-init: client ended: exit code 0\n") {
		t.Errorf("standard error %q", stderr)
	}
	notice := "ocmt: network: other.example.test:443 is not granted; to allow it: ocmt plugins grant weather network other.example.test:443 --tenant acme\n"
	if strings.Count(stderr, notice) != 1 {
		t.Errorf("standard error %q, want %q once", stderr, notice)
	}
	wantSmall(t, got[len(got)-1])
}

// wantSmall checks the memory of process 1 as the client printed it.
func wantSmall(t *testing.T, status string) {
	t.Helper()
	t.Logf("process 1: %s", status)
	match := regexp.MustCompile(`RssAnon: (\d+) kB`).FindStringSubmatch(status)
	if match == nil {
		t.Fatalf("no memory in %q", status)
	}
	if kb, err := strconv.Atoi(match[1]); err != nil || kb > 16<<10 {
		t.Errorf("process 1 uses %s kB of its own", match[1])
	}
}

// TestContainerLiveGrant starts without a grant. The name that the program
// wants is reported, is granted upon that, and then works.
func TestContainerLiveGrant(t *testing.T) {
	needDocker(t)
	const name = "api.example.test"
	asked := make(chan string, 100)
	dir := socketDir(t, func(broker *egress.Broker, c egress.Connection) {
		asked <- c.Host
		// Not at once: both halves of the first lookup are to find nothing.
		time.AfterFunc(300*time.Millisecond, func() {
			setPolicy(t, broker, egress.Rule{Host: c.Host, Port: 80, Plaintext: true})
		})
	})
	code, stdout, stderr := runContainer(t, testImage(t), []string{"--volume", dir + ":/run/ocmt:ro"},
		"/client", "status", name+":80", "await="+name+":80", "status")
	got := strings.Split(strings.TrimSpace(stdout), "\n")
	if code != 0 || len(got) != 4 || got[1] != name+":80: no such name" || got[2] != "await="+name+":80: echo" {
		t.Fatalf("exit code %d, printed\n%s\n%s", code, stdout, stderr)
	}
	if first := <-asked; first != name || len(asked) != 0 {
		t.Errorf("reported %s and %d more, want %s", first, len(asked), name)
	}
	wantSmall(t, got[0])
	wantSmall(t, got[3])
}

// TestContainerWithoutSocket has no egress socket: no name server runs, and
// the program starts all the same.
func TestContainerWithoutSocket(t *testing.T) {
	needDocker(t)
	code, stdout, stderr := runContainer(t, testImage(t), nil, "/client", "127.0.0.1:53", "1.1.1.1:53")
	if want := "127.0.0.1:53: refused\n1.1.1.1:53: unreachable\n"; code != 0 || stdout != want {
		t.Errorf("exit code %d, printed %q, want %q; %s", code, stdout, want, stderr)
	}
	if want := "ocmt-init: client ended: exit code 0\n"; stderr != want {
		t.Errorf("standard error %q, want %q", stderr, want)
	}
}

// TestContainerStateHome cleans up as the plugin's uid, and finds its home
// made.
func TestContainerStateHome(t *testing.T) {
	needDocker(t)
	image := testImage(t)
	state := stateDir(t)
	if os.Geteuid() != 0 {
		t.Skip("giving the state directory to the plugin's uid needs root")
	}
	mount := []string{"--volume", state + ":/state"}
	if code, _, stderr := runContainer(t, image, mount, "/client"); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	info, err := os.Stat(filepath.Join(state, "home"))
	must(t, err)
	if !info.IsDir() || info.Mode().Perm() != 0o700 {
		t.Errorf("home has mode %v", info.Mode())
	}
	if code, _, stderr := runContainer(t, image, mount, "/ocmt/init", "clean", "/state"); code != 0 {
		t.Fatalf("clean: exit code %d: %s", code, stderr)
	}
	wantEmpty(t, state)
}
