package e2e

import (
	"bufio"
	"os/exec"
	"syscall"
	"testing"

	"github.com/ocmt/ocmt/e2e/harness"
)

// TestStatusWatch reads the status and what changes from one command, and
// interrupts it.
func TestStatusWatch(t *testing.T) {
	d := start(t)
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), bin, "status", "--watch", "--home", d.Home)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	reads(t, lines, "no plugins are installed")
	install(t, d, "seed-esm")
	reads(t, lines, "plugin seed-esm  running")
	run(t, d, 0, nil, "plugins", "uninstall", "seed-esm")
	reads(t, lines, "plugin seed-esm  gone")
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("an interrupt ended it with %v, want exit code 0", err)
	}
}
