package hostile

import (
	"io/fs"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// ended is what becomes of the call of a plugin that died of its attack.
const ended = `plugin_\w+: .*`

// resourcesGroup takes all there is.
func resourcesGroup() group {
	died := []record{{action: "tool.call", target: "attack"}, {action: "plugin.state", outcome: "failed"}}
	return group{name: "resources", attacks: []attack{
		{
			name: "fork-bomb", varies: true, raw: true,
			aims:  "leave no process to anybody",
			layer: "cgroup: pids",
			want:  map[string]string{"": `EAGAIN after \d{1,2}`, "runsc": `(EAGAIN|ENOMEM) after \d+|` + ended, "runsc/call": ".*"},
			check: stillFast,
		},
		{
			name: "zombies", raw: true,
			aims:  "leave no process number to anybody, without a process",
			layer: "cgroup: pids; the first process reaps what is left",
			want:  map[string]string{"": `EAGAIN after \d{1,2}`, "runsc": ".*"},
		},
		{
			name: "thread-bomb", varies: true, raw: true,
			aims:  "leave no thread to anybody",
			layer: "cgroup: pids",
			want:  map[string]string{"call": `plugin_threw: .*failed to create new OS thread \(have \d{1,2} already.*`, "runsc/call": `plugin_\w+: .*`},
			check: stillFast,
		},
		{
			name:  "heap-bomb",
			aims:  "take the host's memory, by JavaScript's heap",
			layer: "--max-old-space-size below the limit of the cgroup",
			want:  map[string]string{"call": ended}, records: died,
		},
		{
			name: "buffer-bomb", varies: true,
			aims:  "take the host's memory, outside JavaScript's heap",
			layer: "cgroup: memory, no swap",
			want:  map[string]string{"call": ended}, records: died,
		},
		{
			name: "mapped-memory", varies: true, raw: true,
			aims:  "take the host's memory, in a process beside Node",
			layer: "cgroup: memory, no swap",
			want:  map[string]string{"memory": `ENOMEM after \d{1,2}`, "call": ".*"},
		},
		{
			name:  "descriptor-bomb",
			aims:  "leave no open file to anybody",
			layer: "RLIMIT_NOFILE",
			want:  map[string]string{"": `EMFILE after \d{1,4}`},
		},
		{
			name: "tmp-fill", varies: true,
			aims:  "take the host's memory, by /tmp",
			layer: "size of the tmpfs, which counts as the plugin's memory",
			want:  map[string]string{"": `ENOSPC after \d{1,2} MiB`},
		},
		{
			name: "state-fill", varies: true,
			aims:   "fill the disk that everybody's state is on",
			layer:  "a file system of its own for /state",
			want:   map[string]string{"blocks": `ENOSPC after \d{2,3}`, "hole": "EFBIG after 0|EINVAL after 0|ENOSPC after 0", "runsc/hole": ".* after 0|ok 1", "files": `ENOSPC after \d+|ok 100000`},
			inside: "files that hold nothing are in the plugin's own file system",
		},
		{
			name: "log-flood", varies: true,
			aims:  "fill the disk by printing",
			layer: "two files of 4 MiB for what a container prints",
			want:  map[string]string{"": `\d+ MiB`},
			check: func(t *testing.T, w *world) {
				for _, dir := range []string{"logs", "run", "instances", "audit"} {
					if n := size(t, filepath.Join(w.daemon.Home, "ocmt", dir)); n > 16<<20 {
						t.Errorf("%s holds %d MiB", dir, n>>20)
					}
				}
				if logs := w.run(t, "plugins", "logs", w.id); len(logs) > 12<<20 {
					t.Errorf("%d MiB are kept of what it printed", len(logs)>>20)
				}
			},
		},
		{
			name: "kernel-objects", varies: true, raw: true,
			aims:  "fill tables of the kernel that all share",
			layer: "limits per user, and a user of its own; RLIMIT_NOFILE, RLIMIT_MEMLOCK, cgroup: memory",
			want: map[string]string{
				"inotify": `(EMFILE|ENOSPC) after \d+`, "locked": `(ENOMEM|EAGAIN|EPERM) after \d+`,
				"runsc": `\w+ after \d+`,
			},
			inside: ownKernel,
		},
		{
			name: "kernel-buffers", varies: true, raw: true,
			aims:  "have the kernel keep bytes that nobody reads",
			layer: "RLIMIT_NOFILE, limits of pipes per user, cgroup: memory",
			want:  map[string]string{"": `(EMFILE|ENFILE|ENOMEM|ENOBUFS) after \d+`, "call": ".*"},
		},
		{
			name: "cpu-hog", varies: true,
			aims:  "leave no time of the processors to anybody",
			layer: "cgroup: cpu",
			want:  map[string]string{"": "4 threads", "call": ended},
			check: stillFast,
		},
	}}
}

// stillFast asks the neighbour while the attack goes on. The bound is far above
// what it takes, and far below what it takes when nothing bounds an attacker.
func stillFast(t *testing.T, w *world) {
	t.Helper()
	var times []time.Duration
	for range 21 {
		began := time.Now()
		w.victim.check(t, w.rig)
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	if median := times[len(times)/2]; median > time.Second {
		t.Errorf("the neighbour takes %s", median)
	}
}

// size is what a directory holds in bytes, as the disk counts it.
func size(t *testing.T, dir string) int64 {
	t.Helper()
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it went away
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			sum += blocks(info) * 512
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return sum
}
