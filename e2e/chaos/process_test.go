package chaos

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a program that the suite started: the daemon, or an engine.
type process struct {
	cmd    *exec.Cmd
	log    string // the file that takes what it prints
	exited chan struct{}
}

// spawn starts a program that outlives nobody: sweep ends it by the directory
// that its command line names.
func spawn(log string, env []string, name string, args ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &process{cmd: exec.Command(name, args...), log: log, exited: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt of the suite is not theirs
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// end sends a signal and waits for the end, at most for within.
func (p *process) end(sig syscall.Signal, within time.Duration) error {
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.exited:
		return nil
	case <-time.After(within):
		return fmt.Errorf("%s (%d) did not end within %s of %s:\n%s", filepath.Base(p.cmd.Path), p.pid(), within, sig, p.tail())
	}
}

func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// tail returns the last of what the program printed.
func (p *process) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-8<<10):])
}

// member is a process in a container of a home.
type member struct {
	pid, parent int
	init        bool   // PID 1 of its container
	plugin      string // "" in a container that serves nobody, such as a load check's
	instance    string
}

// census finds the processes in containers of one home by what is mounted in
// them, which no engine has to be asked for.
type census struct {
	instance, plugin *regexp.Regexp
	own              string // our mount namespace

	mu   sync.Mutex
	seen map[string]member // by pid and mount namespace
}

func newCensus(home string) *census {
	at := regexp.QuoteMeta("/" + filepath.Base(home) + "/ocmt/")
	own, _ := os.Readlink("/proc/self/ns/mnt")
	return &census{
		// The root of a mount and where it is mounted; a copy of the host's
		// mounts, as a container in the making has, holds no such pair.
		instance: regexp.MustCompile(at + `instances/([^/ ]+)/\S* /etc/passwd `),
		plugin:   regexp.MustCompile(`^ocmt-(.+)-[0-9a-f]{8}-g[0-9]+$`), // not that of a load check
		own:      own, seen: map[string]member{},
	}
}

// members lists the processes that are alive.
func (c *census) members() []member {
	c.mu.Lock()
	defer c.mu.Unlock()
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	now := make(map[string]member, len(dirs))
	var found []member
	for _, dir := range dirs {
		ns, err := os.Readlink(dir + "/ns/mnt")
		if err != nil || ns == c.own {
			continue
		}
		key := dir + ns
		m, known := c.seen[key]
		if !known || m.instance == "" {
			m = c.look(dir)
		}
		now[key] = m
		if m.instance != "" {
			found = append(found, m)
		}
	}
	c.seen = now
	return found
}

// look reads what one process is; an instance of "" is none of ours.
func (c *census) look(dir string) member {
	name, err := os.ReadFile(dir + "/comm")
	if err != nil || bytes.HasPrefix(name, []byte("runc")) { // a container in the making
		return member{}
	}
	mounts, err := os.ReadFile(dir + "/mountinfo")
	if err != nil {
		return member{}
	}
	instance := c.instance.FindSubmatch(mounts)
	if instance == nil {
		return member{}
	}
	m := member{instance: string(instance[1])}
	if plugin := c.plugin.FindStringSubmatch(m.instance); plugin != nil {
		m.plugin = plugin[1]
	}
	m.pid, _ = strconv.Atoi(filepath.Base(dir))
	m.parent, _ = strconv.Atoi(field(dir+"/status", "PPid:"))
	inside := strings.Fields(field(dir+"/status", "NSpid:"))
	m.init = len(inside) > 1 && inside[len(inside)-1] == "1"
	return m
}

// field returns one field of a file of the form of /proc/PID/status.
func field(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// initOf returns PID 1 of a plugin's container, as the host numbers it.
func (c *census) initOf(plugin string) (int, error) {
	for _, m := range c.members() {
		if m.plugin == plugin && m.init {
			return m.pid, nil
		}
	}
	return 0, fmt.Errorf("plugin %s has no container", plugin)
}

// runnerOf returns the process that runs a plugin.
func (c *census) runnerOf(plugin string) (int, error) {
	members := c.members()
	for _, m := range members {
		if m.plugin == plugin && !m.init && slices.ContainsFunc(members, func(p member) bool { return p.init && p.pid == m.parent }) {
			return m.pid, nil
		}
	}
	return 0, fmt.Errorf("plugin %s has no process", plugin)
}

// pids returns every process of every plugin, for comparing before and after.
func (c *census) pids() map[string][]int {
	all := map[string][]int{}
	for _, m := range c.members() {
		if m.plugin != "" {
			all[m.plugin] = append(all[m.plugin], m.pid)
		}
	}
	for _, pids := range all {
		slices.Sort(pids)
	}
	return all
}

// guard watches all the time that no plugin has two containers that run.
type guard struct {
	census *census
	stop   chan struct{}
	done   sync.WaitGroup

	mu    sync.Mutex
	twice []string
}

func newGuard(c *census) *guard {
	g := &guard{census: c, stop: make(chan struct{})}
	g.done.Go(func() {
		for tick := time.NewTicker(100 * time.Millisecond); ; {
			select {
			case <-g.stop:
				tick.Stop()
				return
			case <-tick.C:
				g.look()
			}
		}
	})
	return g
}

func (g *guard) look() {
	inits := map[string]map[string]int{} // by plugin and instance
	for _, m := range g.census.members() {
		// A process that was just killed is looked at once more, alone.
		if m.init && m.plugin != "" && alive(m.pid) {
			if inits[m.plugin] == nil {
				inits[m.plugin] = map[string]int{}
			}
			inits[m.plugin][m.instance] = m.pid
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for plugin, instances := range inits {
		if len(instances) > 1 {
			g.twice = append(g.twice, fmt.Sprintf("%s runs as %v", plugin, instances))
		}
	}
}

// seen returns what was seen since it was last asked.
func (g *guard) seen() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	twice := g.twice
	g.twice = nil
	return twice
}

func (g *guard) close() {
	close(g.stop)
	g.done.Wait()
}

// alive reports a process that is neither gone nor waiting to be reaped.
func alive(pid int) bool {
	state := field(fmt.Sprintf("/proc/%d/status", pid), "State:")
	return state != "" && !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
}

// usage is what a process holds.
type usage struct {
	files, threads int
	memory         int64 // RssAnon, kB
}

func usageOf(pid int) usage {
	dir := fmt.Sprintf("/proc/%d", pid)
	files, _ := os.ReadDir(dir + "/fd")
	threads, _ := strconv.Atoi(field(dir+"/status", "Threads:"))
	kb, _ := strconv.ParseInt(strings.TrimSuffix(field(dir+"/status", "RssAnon:"), " kB"), 10, 64)
	return usage{files: len(files), threads: threads, memory: kb}
}

// cpuOf returns the processor time that a process has used.
func cpuOf(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(text, []byte(") ")) // the name before may hold spaces
	f := strings.Fields(string(rest))
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

// sweep ends what still runs over a directory of the suite's and takes away
// what is mounted below it: the engines' children outlive the engines.
func sweep(dir string) {
	_ = control(filepath.Join(dir, "disk"), fiThaw) // or nothing below it would end
	for range 3 {
		found := false
		dirs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, path := range dirs {
			line, err := os.ReadFile(path)
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err == nil && pid != os.Getpid() && bytes.Contains(line, []byte(dir+"/")) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				found = true
			}
		}
		homes, _ := filepath.Glob(filepath.Join(dir, "home-*"))
		mounted, _ := filepath.Glob(filepath.Join(dir, "disk", "home-*"))
		for _, home := range append(homes, mounted...) {
			for _, m := range newCensus(home).members() {
				_ = syscall.Kill(m.pid, syscall.SIGKILL)
				found = true
			}
		}
		if !found {
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	for _, at := range mountsBelow(dir) {
		_ = syscall.Unmount(at, syscall.MNT_DETACH)
	}
	_ = exec.Command("chattr", "-R", "-f", "-i", dir).Run() // sealed payloads are immutable
	_ = os.RemoveAll(dir)
}

// mountsBelow lists what is mounted below a directory, the last first.
func mountsBelow(dir string) []string {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	var at []string
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			at = append(at, f[4])
		}
	}
	slices.Reverse(at)
	return at
}

// tempDir makes the suite's directory, of which the name is short: sockets
// lie below it. What a run left that was cut off is taken away first.
func tempDir(t *testing.T) string {
	t.Helper()
	const prefix = "ocmt-chaos-"
	old, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	for _, dir := range old {
		owner, _ := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), prefix))
		if owner > 0 && !alive(owner) {
			sweep(dir)
		}
	}
	dir := filepath.Join(os.TempDir(), prefix+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sweep(dir) })
	return dir
}
