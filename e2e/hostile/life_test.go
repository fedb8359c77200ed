package hostile

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ocmt/ocmt/e2e/harness"
)

// lifeGroup does not end when it should, and ends what is not its own.
func lifeGroup() group {
	return group{name: "life", attacks: []attack{
		{
			name: "orphans", varies: true, raw: true,
			aims:  "leave processes that go on when the plugin is gone",
			layer: "PID namespace: all end with the first process",
			want:  map[string]string{"": "4 processes"},
			check: func(t *testing.T, w *world) {
				goneAfter(t, w, time.Minute, func() { w.run(t, "plugins", "restart", w.id) })
			},
		},
		{
			name: "deaf", varies: true, raw: true,
			aims:  "go on after it was told to end",
			layer: "SIGKILL after the grace",
			want:  map[string]string{"": "yes"},
			check: func(t *testing.T, w *world) {
				goneAfter(t, w, 30*time.Second, func() { w.run(t, "plugins", "disable", w.id) })
			},
		},
		{
			name: "stopped", varies: true,
			aims:  "be there and do nothing, so that it is neither served nor restarted",
			layer: "probes; SIGKILL, which a stopped process cannot wait out",
			want:  map[string]string{"": "soon"},
			check: func(t *testing.T, w *world) {
				goneAfter(t, w, 30*time.Second, func() { w.run(t, "plugins", "restart", w.id) })
			},
		},
		{
			name: "signals", varies: true, prepare: prepareProcess,
			aims:   "end processes of the host, of its own user too",
			layer:  "PID namespace; the first process of one hears no signal from within",
			params: `{"pid":{pid}}`,
			inside: "signals to its own processes are its own affair",
			want:   map[string]string{"": "ESRCH", "init": "ok|EPERM|ESRCH", "stop init": "ok|EPERM|ESRCH", "all": "ok|ESRCH", "runsc/call": ended},
			check:  sameUser,
		},
		{
			name:  "busy-uninstall",
			aims:  "keep its state by writing while it is removed",
			layer: "nothing is removed before all processes have ended",
			want:  map[string]string{"": "yes"},
			gone: func(t *testing.T, w *world) {
				if n := size(t, w.state()); n > 0 {
					t.Errorf("%d bytes of its state are left", n)
				}
			},
		},
	}}
}

// blocks are what the disk keeps of a file, of 512 bytes each.
func blocks(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks
	}
	return 0
}

// goneAfter has the plugin ended, and looks for what was there before.
func goneAfter(t *testing.T, w *world, limit time.Duration, end func()) {
	t.Helper()
	seen := ofPlugin(t, w)
	began := time.Now()
	end()
	if took := time.Since(began); took > limit {
		t.Errorf("it took %s", took)
	}
	var left []string
	if !within(20*time.Second, func() bool { left = seen(); return len(left) == 0 }) {
		t.Errorf("left: %s", strings.Join(left, ", "))
	}
}

// ofPlugin notes what the host has of the attack's container, and returns what
// is left of it then.
func ofPlugin(t *testing.T, w *world) func() []string {
	t.Helper()
	id, err := w.daemon.Container(t.Context(), tenant, w.id)
	if err != nil {
		t.Fatal(err)
	}
	traces := harness.NewTraces(w.daemon)
	if _, err := traces.LookAt(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	return traces.Left
}

// prepareProcess starts a process of the host.
func prepareProcess(t *testing.T, w *world) {
	t.Helper()
	w.vars["pid"] = strconv.Itoa(decoyProcess(t, 65534))
}

// decoyProcess is one of a user that must be there until the test ends.
func decoyProcess(t *testing.T, uid int) int {
	t.Helper()
	child := exec.Command("sleep", "600")
	child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	t.Cleanup(func() {
		select {
		case err := <-ended:
			t.Errorf("the decoy process ended: %v", err)
		default:
			_ = child.Process.Kill() // it is there
			<-ended
		}
	})
	return child.Process.Pid
}

// sameUser has the plugin signal a process of the host that has its user. Under
// gVisor a plugin can end its own first process, and the call with it.
func sameUser(t *testing.T, w *world) {
	t.Helper()
	var uid int
	if !within(20*time.Second, func() bool {
		var err error
		uid, err = userOf(t, w)
		return err == nil
	}) {
		t.Fatal("the plugin does not run")
	}
	pid := decoyProcess(t, uid)
	result, err := w.invoke(t.Context(), w.id, "attack", `{"pid":`+strconv.Itoa(pid)+`}`)
	if err == nil && !strings.Contains(string(result), `"the decoy":"ESRCH"`) || err != nil && runtimeName() == "runc" {
		t.Errorf("%s, %v", result, err)
	}
}

// userOf returns the user that the plugin's first process has on the host.
func userOf(t *testing.T, w *world) (int, error) {
	t.Helper()
	id, err := w.daemon.Container(t.Context(), tenant, w.id)
	if err != nil {
		return 0, err
	}
	pid, err := w.daemon.Engine().PID(t.Context(), id)
	if err != nil {
		return 0, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "\nUid:")
	return strconv.Atoi(strings.Fields(rest + " none")[0])
}
