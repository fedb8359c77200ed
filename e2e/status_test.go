package e2e

import (
	"bufio"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/ocmt/ocmt/e2e/harness"
)

// TestStatusWatch reads the status twice from one command and interrupts it.
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
	shown := 0
	for lines := bufio.NewScanner(out); shown < 2 && lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "daemon ") {
			shown++
		}
	}
	if shown < 2 {
		t.Errorf("the status was shown %d times", shown)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("an interrupt ended it with %v, want exit code 0", err)
	}
}
