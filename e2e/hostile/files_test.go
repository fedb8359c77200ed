package hostile

import (
	"encoding/json"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// refusedFile is what becomes of a file that is not there, or not to be had.
const refusedFile = "ENOENT|EACCES|EPERM|EROFS|ENOTDIR"

// filesGroup reaches for files.
func filesGroup() group {
	return group{name: "files", attacks: []attack{
		{
			name: "host-files", varies: true, prepare: prepareDecoy,
			aims:   "read files of the host, of other plugins and of the daemon",
			layer:  "mount namespace, own uid",
			params: `{"files":["{decoy}/file","{home}/config.json","{home}/ocmt/state.db","{home}/ocmt/keys/audit.hmac","/etc/shadow","/root/.ssh/id_rsa"],"dirs":["{home}/ocmt/tenants/default/plugins/victim/state","{decoy}","/root","/var/lib/docker","/var/lib/containerd"]}`,
			want:   map[string]string{"": refusedFile},
		},
		{
			name: "processes-seen", varies: true,
			aims:  "read command lines, environments and open files of other processes",
			layer: "PID namespace, nothing of the host in the environment",
			want:  map[string]string{"": `\[".*`},
			check: func(t *testing.T, w *world) {
				if n := len(w.answer); n > 3 {
					t.Errorf("it saw %d processes", n)
				}
				for _, word := range []string{"dockerd", "containerd", "serve", "victim"} {
					if strings.Contains(string(w.result), word) {
						t.Errorf("it saw %q: %s", word, w.result)
					}
				}
			},
		},
		{
			name: "mounts-seen", varies: true,
			aims:  "learn the host's paths, kernel and neighbours from /proc and /sys",
			layer: "mount and cgroup namespaces, masked paths; the paths of its own directories are seen under runc",
			want:  map[string]string{"": ".*"},
			check: nothingOfOthersSeen,
		},
		{
			name: "write-outside", varies: true,
			aims:  "leave a program or a setting that others use",
			layer: "read-only root and payload, own uid, read-only /proc and /sys",
			want:  map[string]string{"": refusedFile},
		},
		{
			name: "kernel-memory", varies: true,
			aims:   "read or write the memory of the kernel and of devices",
			layer:  "own /dev, device cgroup, masked paths",
			want:   map[string]string{"": refusedFile + "|empty|ENXIO", "runsc/write /dev/fuse": "ok|" + refusedFile, "runsc/write /dev/net/tun": "ok|" + refusedFile, "runsc//dev/net/tun": ".*-77|" + refusedFile},
			inside: "under gVisor /dev/fuse and /dev/net/tun are its own",
		},
		{
			name: "state-links", varies: true, prepare: prepareDecoy,
			aims:   "have the removal of its state remove something else, or fail",
			layer:  "removal by descriptors that follow no link; links across mounts are refused by the kernel",
			params: `{"decoy":"{decoy}"}`,
			inside: "what lies in its own /state is its own",
			want: map[string]string{
				"": "ok", "hard link to the decoy": refusedFile,
				"hard link to the payload": "EXDEV|EPERM", "hard link to passwd": "EXDEV|EPERM", "hard link to the socket": "EXDEV|EPERM",
			},
			gone: func(t *testing.T, w *world) {
				untouched(t, w)
				if _, err := os.Lstat(w.state()); err == nil {
					t.Error("the state is there after the uninstall")
				}
			},
		},
		{
			name: "home-link", varies: true, prepare: prepareDecoy,
			aims:   "have the host make or give away files in a directory of the host, at the next start",
			layer:  "the host makes nothing in a /state that a plugin had",
			params: `{"decoy":"{decoy}"}`,
			inside: "what lies in its own /state is its own",
			want:   map[string]string{"": "ok", "the state itself": "EBUSY|" + refusedFile},
			check: func(t *testing.T, w *world) {
				w.run(t, "plugins", "restart", w.id)
				if _, err := w.invoke(t.Context(), w.id, "still", "{}"); err != nil {
					t.Errorf("after the restart: %v", err)
				}
				untouched(t, w)
			},
			gone: untouched,
		},
		{
			name: "workspace-links", varies: true, prepare: prepareWorkspace,
			aims:   "reach through a granted directory to what lies beside it",
			layer:  "mount namespace; sources of later grants are resolved and compared",
			grants: [][]string{{"workspace", "rw", "{work}"}},
			params: `{"work":"{work}","decoy":"{decoy}"}`,
			inside: "links lead nowhere where the decoy is not mounted",
			want:   map[string]string{"": refusedFile, "the directory itself": "EBUSY|" + refusedFile, "later": "ok"},
			check:  laterGrant,
			gone:   untouched,
		},
		{
			name: "hidden-secrets", varies: true, prepare: prepareSecrets,
			aims:   "read the keys that lie about in a directory that it was granted",
			layer:  "files with the names of secrets are covered before the start",
			grants: [][]string{{"workspace", "rw", "{work}"}},
			params: `{"work":"{work}","secrets":[".env","id_rsa","sub/.env.local"],"dirs":[".ssh"]}`,
			want:   map[string]string{"": "empty|EBUSY|EXDEV|" + refusedFile},
			gone:   secretsIntact,
		},
		{
			name: "engine-sockets", varies: true, prepare: prepareSockets,
			aims:   "command the engine, and by it the host",
			layer:  "no socket of the host is mounted; its mount namespace has none of these paths",
			grants: [][]string{{"workspace", "rw", "{work}"}},
			params: `{"work":"{work}","home":"{home}","decoy":"{socket}"}`,
			want:   map[string]string{"": refusedFile + "|ECONNREFUSED"},
		},
		{
			name: "set-id-files", varies: true, raw: true, prepare: prepareWorkspace,
			aims:   "leave a program that gives its owner's rights to whoever runs it on the host",
			layer:  "seccomp refuses the bits; where the runtime has no seccomp, a directory is granted for writing only if others cannot get there",
			inside: "under gVisor the bits are set in its own /tmp and /state, which is mounted nosuid and which nobody else may enter",
			grants: [][]string{{"workspace", "rw", "{work}"}},
			params: `{"work":"{work}"}`,
			want:   map[string]string{"": "EPERM", "runsc": "ok|EPERM"},
			check:  noSetID,
		},
		{
			name: "devices", varies: true, raw: true, prepare: prepareWorkspace,
			aims:   "make a device node and read the disk through it",
			layer:  "no CAP_MKNOD, mknod is not in the seccomp profile, nodev",
			grants: [][]string{{"workspace", "rw", "{work}"}},
			params: `{"work":"{work}"}`,
			want:   map[string]string{"": "EPERM", "runsc//tmp/mem": "ok", "runsc//tmp/disk": "ok", "runsc//tmp/loop": "ok", "runsc//tmp/null": "ok", "runsc//tmp/whiteout": "ok", "runsc/opened /tmp/null": "ok"},
			inside: "under gVisor a node in its /tmp is of the sandbox's own kernel, which has no disk",
		},
		{
			name: "exec-elsewhere", varies: true, raw: true, prepare: prepareWorkspace,
			aims:   "run a program that was not in the package that was reviewed",
			layer:  "noexec on everything that it can write; no other program in the image",
			grants: [][]string{{"workspace", "rw", "{work}"}},
			params: `{"work":"{work}"}`,
			want:   map[string]string{"": refusedFile + "|ERR_DLOPEN_FAILED|EMFILE", "runsc": refusedFile + "|ERR_DLOPEN_FAILED|EMFILE|Error: Command failed.*", "runsc/script in /state": ".*", "runsc/script in {work}": ".*"},
			inside: "gVisor lets a script name a program of the payload to run it; what the script holds does not run",
		},
		{
			name: "memfd", varies: true, raw: true,
			aims:   "run a program that is in no file system",
			layer:  "seccomp: memfd_create only without the right to execute",
			want:   map[string]string{"": "EPERM|EACCES|ENOSYS|EINVAL|.*permission denied", "runsc/plain": "ok"},
			inside: "gVisor ignores our seccomp profile; the program is in the sandbox as the plugin is",
		},
		{
			name: "core-dump", varies: true, prepare: prepareWorkspace,
			aims:   "have the host write a core file, or run its handler of cores as root",
			layer:  "RLIMIT_CORE of 1, which the seccomp profile keeps",
			grants: [][]string{{"workspace", "rw", "{work}"}},
			params: `{"work":"{work}"}`,
			want:   map[string]string{"": "SIGABRT|SIGTRAP|exit 134", "filter": "set|" + refusedFile},
			check: func(t *testing.T, w *world) {
				for _, dir := range []string{w.vars["work"], filepath.Join(w.state(), "state")} {
					if found, err := filepath.Glob(dir + "/*core*"); err != nil || len(found) > 0 {
						t.Errorf("cores: %v, %v", found, err)
					}
				}
			},
		},
		{
			name: "file-handles", varies: true, raw: true,
			aims:  "open the root of the host's file system by its number",
			layer: "open_by_handle_at is not in the seccomp profile, and needs a capability",
			want:  map[string]string{"": "EPERM|EACCES|ENOSYS|EOPNOTSUPP|ENOTSUP|ESTALE"},
		},
	}}
}

// prepareDecoy makes a file of the host that nothing but mounts keeps from the
// plugin.
func prepareDecoy(t *testing.T, w *world) {
	t.Helper()
	dir := filepath.Join(w.dir, "decoy")
	w.vars["decoy"] = dir
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte(w.secret), 0o644); err != nil {
		t.Fatal(err)
	}
}

// prepareWorkspace makes a directory to grant, beside the decoy.
func prepareWorkspace(t *testing.T, w *world) {
	t.Helper()
	prepareDecoy(t, w)
	person := filepath.Join(w.dir, "person")
	mode := os.FileMode(0o755)
	if runtimeName() == "runsc" { // see instance.CheckWritable
		mode = 0o700
	}
	if err := os.Mkdir(person, mode); err != nil {
		t.Fatal(err)
	}
	work := filepath.Join(person, "work")
	w.vars["work"] = work
	for _, dir := range []string{work, filepath.Join(work, "sub")} {
		if err := os.Mkdir(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(w.vars["decoy"], filepath.Join(work, "planted")); err != nil {
		t.Fatal(err)
	}
}

// secretFiles lie about in the workspace.
var secretFiles = []string{".env", "id_rsa", "sub/.env.local", ".ssh/id_ed25519"}

func prepareSecrets(t *testing.T, w *world) {
	t.Helper()
	prepareWorkspace(t, w)
	if err := os.Mkdir(filepath.Join(w.vars["work"], ".ssh"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range secretFiles {
		if err := os.WriteFile(filepath.Join(w.vars["work"], name), []byte(w.secret), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func secretsIntact(t *testing.T, w *world) {
	t.Helper()
	for _, name := range secretFiles {
		if data, err := os.ReadFile(filepath.Join(w.vars["work"], name)); err != nil || string(data) != w.secret {
			t.Errorf("%s is %q, %v", name, data, err)
		}
	}
}

// prepareSockets makes a decoy that listens beside the workspace, and fails if
// anybody speaks to it.
func prepareSockets(t *testing.T, w *world) {
	t.Helper()
	prepareWorkspace(t, w)
	path := filepath.Join(w.dir, "engine.sock")
	w.vars["socket"] = path
	listenDecoy(t, path)
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
}

// listenDecoy listens on a unix socket, and fails the test if anybody connects.
func listenDecoy(t *testing.T, path string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	reached := make(chan bool, 1)
	go func() {
		defer close(reached)
		if c, err := listener.Accept(); err == nil {
			c.Close()
			reached <- true
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		if <-reached {
			t.Errorf("somebody connected to %s", path)
		}
	})
}

// untouched looks at the decoy.
func untouched(t *testing.T, w *world) {
	t.Helper()
	dir := w.vars["decoy"]
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("the decoy holds %v, %v", entries, err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "file"))
	if err != nil || string(data) != w.secret {
		t.Errorf("the decoy is %q, %v", data, err)
	}
	for _, path := range []string{dir, filepath.Join(dir, "file")} {
		if uid := ownerOf(t, path); uid != os.Getuid() {
			t.Errorf("%s belongs to %d", path, uid)
		}
	}
}

// nothingOfOthersSeen looks for names of the host and of others. Under runc the
// kernel shows where each directory comes from: of its own, all are.
func nothingOfOthersSeen(t *testing.T, w *world) {
	t.Helper()
	for _, word := range []string{victimID, "dockerd", "admin.sock", "state.db"} {
		if strings.Contains(string(w.result), word) {
			t.Errorf("it saw %q: %s", word, w.result)
		}
	}
	for _, path := range []string{"/proc/cmdline", "/proc/version", "/proc/kallsyms", "/proc/modules", "/proc/interrupts", "/proc/diskstats", "/proc/vmstat"} {
		hosts, err := os.ReadFile(path)
		if got := w.answer[path]; err == nil && got != "" && got == string(hosts) {
			t.Errorf("%s is the host's: %.200s", path, got)
		}
	}
	for line := range strings.Lines(w.answer["/proc/self/cgroup"]) {
		if !strings.HasSuffix(strings.TrimSpace(line), ":/") {
			t.Errorf("the host's control group is shown: %s", line)
		}
	}
}

// laterGrant grants what the plugin has made a link to the decoy meanwhile.
func laterGrant(t *testing.T, w *world) {
	t.Helper()
	work := w.vars["work"]
	res := w.daemon.Run(t.Context(), "plugins", "grant", w.id, "workspace", "ro", work+"/sub")
	t.Logf("granting the link: exit code %d: %s%s", res.Code, res.Stdout, res.Stderr)
	result, err := w.invoke(t.Context(), w.id, "look", string(mustJSON(t, map[string]string{"work": work})))
	if err != nil {
		t.Fatal(err)
	}
	var seen struct{ Sub string }
	if err := json.Unmarshal(result, &seen); err != nil {
		t.Fatal(err)
	}
	if res.Code == 0 || strings.HasPrefix(seen.Sub, "ok") {
		t.Errorf("a grant followed the plugin's link: exit code %d, it reads %q", res.Code, seen.Sub)
	}
	untouched(t, w)
}

// noSetID looks for the bits in what the plugin could write: there are none of
// anybody but the plugin's own user.
// othersReach says that any other user of the host gets to the file.
func othersReach(path string) bool {
	cmd := exec.Command("stat", path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return cmd.Run() == nil
}

func noSetID(t *testing.T, w *world) {
	t.Helper()
	own := ownerOf(t, filepath.Join(w.state(), "state"))
	for _, root := range []string{w.vars["work"], filepath.Join(w.state(), "state")} {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := os.Lstat(path)
			if err == nil && info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 && ownerOf(t, path) != own && othersReach(path) {
				t.Errorf("%s has mode %s and belongs to %d", path, info.Mode(), ownerOf(t, path))
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}
