package pid1_test

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// maxBinary is what ocmt-init may weigh, stripped, in bytes.
const maxBinary = 6 << 20

var builtOnce sync.Once

// binaries holds what the tests run; the directory is removed by TestMain.
var binaries struct {
	dir, init, client string
	err               error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if binaries.dir != "" {
		os.RemoveAll(binaries.dir)
	}
	os.Exit(code)
}

// initBinary returns the path of ocmt-init, built as it is shipped.
func initBinary(t testing.TB) string {
	t.Helper()
	build(t)
	return binaries.init
}

func build(t testing.TB) {
	t.Helper()
	builtOnce.Do(func() {
		if binaries.dir, binaries.err = os.MkdirTemp("", "ocmt-init"); binaries.err != nil {
			return
		}
		binaries.init = filepath.Join(binaries.dir, "ocmt-init")
		binaries.client = filepath.Join(binaries.dir, "client")
		for path, source := range map[string]string{binaries.init: "../..", binaries.client: "./testdata/client"} {
			// Opened so that the test cache knows the file.
			if _, err := os.ReadFile(filepath.Join(source, "main.go")); err != nil {
				binaries.err = err
				return
			}
			cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, source)
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Logf("%s", out)
				binaries.err = err
				return
			}
		}
	})
	if binaries.err != nil {
		t.Fatal(binaries.err)
	}
}

func TestBinaryIsSmallAndStatic(t *testing.T) {
	path := initBinary(t)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", info.Size())
	if info.Size() > maxBinary {
		t.Errorf("%d bytes, more than %d", info.Size(), maxBinary)
	}
	file, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("the binary is not static: it has a %v segment", p.Type)
		}
	}
}

// TestNoTLSInside keeps the heavy packages out of the container's first
// process: a function of theirs would be named in the binary.
func TestNoTLSInside(t *testing.T) {
	data, err := os.ReadFile(initBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range []string{"crypto/tls.(", "net/http.(", "github.com/miekg/dns.", "golang.org/x/net/idna."} {
		if strings.Contains(string(data), pkg) {
			t.Errorf("the binary links %s", strings.TrimRight(pkg, ".("))
		}
	}
	if !strings.Contains(string(data), "golang.org/x/net/dns/dnsmessage.(") {
		t.Error("function names cannot be seen in the binary: the test proves nothing")
	}
}
