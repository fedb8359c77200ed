package sandboxtest

import (
	"os"
	"strings"
	"testing"

	"github.com/ocmt/ocmt/sandbox/sandboxtest/internal/report"
)

// checkOwnKernel is what a container may see that has a kernel of its own: no
// limits, which are on that kernel's processes (see "seen from outside"), and
// nothing of the host.
func checkOwnKernel(t *testing.T, got report.Kernel) {
	t.Helper()
	for _, path := range maskedFiles {
		hosts, err := os.ReadFile(path)
		if text, shown := got.Files[path]; shown && err == nil && text == strings.TrimSpace(string(hosts)) && text != "" {
			t.Errorf("%s is the host's: %q", path, text)
		}
	}
	for line := range strings.Lines(got.Files["/proc/self/cgroup"]) {
		if !strings.HasSuffix(strings.TrimSpace(line), ":/") {
			t.Errorf("the control group of the host is shown: %s", line)
		}
	}
}

// checkOwnCalls looks for calls that a kernel of the container's own must not
// carry out either, since they are about devices, other kernels or other
// containers. What succeeds, as unshare, ptrace and shmget do, has its effect
// in that kernel alone; what that may ask of the host is another row's, "seen
// from outside".
func checkOwnCalls(t *testing.T, got map[string]string) {
	t.Helper()
	for _, name := range []string{
		"io_uring_setup", "bpf", "userfaultfd", "perf_event_open", "memfd_secret", "process_vm_readv",
		"open_by_handle_at", "mount", "setns",
		"socket ALG", "socket VSOCK", "socket PACKET", "socket NETLINK_AUDIT", "socketpair TIPC",
	} {
		if result, made := got[name]; !made || result == "" {
			t.Errorf("%s: %q, want an error", name, result)
		}
	}
}
