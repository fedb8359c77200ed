package pid1_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// command returns ocmt-init as process 1 of its own PID namespace.
func command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making a PID namespace needs root")
	}
	cmd := exec.Command(initBinary(t), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	return cmd
}

// finish runs a command and returns its exit code and what it wrote.
func finish(t testing.TB, cmd *exec.Cmd) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		if errors.Is(err, syscall.EPERM) {
			t.Skip("this host lets nobody make a PID namespace")
		}
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func TestExitCodes(t *testing.T) {
	tests := map[string]struct {
		args []string
		code int
		last string // line of standard error
	}{
		"success":          {[]string{"run", "--", "true"}, 0, "ocmt-init: true ended: exit code 0"},
		"without dashes":   {[]string{"run", "true"}, 0, "ocmt-init: true ended: exit code 0"},
		"failure":          {[]string{"run", "--", "/bin/sh", "-c", "exit 7"}, 7, "ocmt-init: sh ended: exit code 7"},
		"high code":        {[]string{"run", "--", "sh", "-c", "exit 200"}, 200, "ocmt-init: sh ended: exit code 200"},
		"SIGKILL":          {[]string{"run", "--", "sh", "-c", "kill -9 $$"}, 137, "ocmt-init: sh ended: signal 9 (SIGKILL)"},
		"SIGSEGV":          {[]string{"run", "--", "sh", "-c", "kill -SEGV $$"}, 139, "ocmt-init: sh ended: signal 11 (SIGSEGV)"},
		"no such program":  {[]string{"run", "--", "no-such-program"}, 127, `ocmt-init: cannot start no-such-program: exec: "no-such-program": executable file not found in $PATH`},
		"no such path":     {[]string{"run", "--", "/no/such"}, 127, `ocmt-init: cannot start /no/such: exec: "/no/such": stat /no/such: no such file or directory`},
		"not executable":   {[]string{"run", "--", "/etc/passwd"}, 126, `ocmt-init: cannot start /etc/passwd: exec: "/etc/passwd": permission denied`},
		"a directory":      {[]string{"run", "--", "/etc"}, 126, `ocmt-init: cannot start /etc: exec: "/etc": is a directory`},
		"nothing to run":   {[]string{"run"}, 125, "  ocmt-init version"},
		"only dashes":      {[]string{"run", "--"}, 125, "  ocmt-init version"},
		"no command":       {nil, 125, "  ocmt-init version"},
		"unknown command":  {[]string{"walk"}, 125, "  ocmt-init version"},
		"clean without":    {[]string{"clean"}, 125, "  ocmt-init version"},
		"version and more": {[]string{"version", "x"}, 125, "  ocmt-init version"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			code, _, stderr := finish(t, command(t, tt.args...))
			lines := strings.Split(strings.TrimRight(stderr, "\n"), "\n")
			if code != tt.code || lines[len(lines)-1] != tt.last {
				t.Errorf("exit code %d, want %d; standard error %q, want %q last", code, tt.code, stderr, tt.last)
			}
		})
	}
}

func TestNotAProgram(t *testing.T) {
	path := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(path, []byte("just text"), 0o755); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := finish(t, command(t, "run", "--", path)); code != 126 || !strings.Contains(stderr, "exec format error") {
		t.Errorf("exit code %d, %q, want 126", code, stderr)
	}
}

func TestVersion(t *testing.T) {
	if code, stdout, _ := finish(t, command(t, "version")); code != 0 || stdout != "ocmt-init devel\n" {
		t.Errorf("exit code %d, %q", code, stdout)
	}
}

func TestEnvironmentAndStreams(t *testing.T) {
	cmd := command(t, "run", "--", "sh", "-c", `cat; echo "$GREETING $1"`, "sh", "an argument")
	cmd.Env = append(os.Environ(), "GREETING=hello")
	cmd.Stdin = strings.NewReader("from stdin\n")
	code, stdout, _ := finish(t, cmd)
	if code != 0 || stdout != "from stdin\nhello an argument\n" {
		t.Errorf("exit code %d, %q", code, stdout)
	}
}

func TestOwnSession(t *testing.T) {
	s := start(t, "echo ready; exec sleep 60")
	children := childrenOf(t, s.cmd.Process.Pid)
	if len(children) != 1 {
		t.Fatalf("ocmt-init has %d children", len(children))
	}
	if p := children[0]; p.pid != p.group || p.pid != p.session {
		t.Errorf("process %d is in group %d and session %d, want its own", p.pid, p.group, p.session)
	}
}

// started is a running ocmt-init whose program wrote "ready".
type started struct {
	cmd    *exec.Cmd
	lines  *bufio.Scanner
	stderr *strings.Builder
}

func start(t *testing.T, script string) *started {
	t.Helper()
	cmd := command(t, "run", "--", "sh", "-c", script)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s := &started{cmd: cmd, lines: bufio.NewScanner(stdout), stderr: &strings.Builder{}}
	cmd.Stderr = s.stderr
	if err := cmd.Start(); err != nil {
		if errors.Is(err, syscall.EPERM) {
			t.Skip("this host lets nobody make a PID namespace")
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	s.want(t, "ready")
	return s
}

func (s *started) want(t *testing.T, line string) {
	t.Helper()
	if !s.lines.Scan() || s.lines.Text() != line {
		t.Fatalf("read %q, %v, want %q", s.lines.Text(), s.lines.Err(), line)
	}
}

// end waits for the exit code.
func (s *started) end(t *testing.T) int {
	t.Helper()
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, s.stdout())
		_ = s.cmd.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("ocmt-init does not end")
	}
	return s.cmd.ProcessState.ExitCode()
}

// stdout is what the scanner has not read.
func (s *started) stdout() io.Reader { return readerFunc(s.read) }

func (s *started) read(p []byte) (int, error) {
	if !s.lines.Scan() {
		return 0, io.EOF
	}
	return copy(p, s.lines.Bytes()), nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestSignalsAreForwarded(t *testing.T) {
	signals := map[string]syscall.Signal{
		"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT, "USR1": syscall.SIGUSR1,
		"USR2": syscall.SIGUSR2, "WINCH": syscall.SIGWINCH, "TERM": syscall.SIGTERM,
	}
	script := ""
	for name := range signals {
		script += fmt.Sprintf("trap 'echo %s' %s; ", name, name)
	}
	script += "trap 'echo TERM; exit 42' TERM; echo ready; while :; do sleep 0.02; done"
	s := start(t, script)
	for name, signal := range signals {
		if signal == syscall.SIGTERM {
			continue
		}
		if err := s.cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		s.want(t, name)
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.want(t, "TERM")
	if code := s.end(t); code != 42 {
		t.Errorf("exit code %d, want 42", code)
	}
}

func TestSignalEndsTheProgram(t *testing.T) {
	s := start(t, "echo ready; exec sleep 60")
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := s.end(t); code != 143 || !strings.Contains(s.stderr.String(), "sh ended: signal 15 (SIGTERM)") {
		t.Errorf("exit code %d, %q, want 143", code, s.stderr)
	}
}

// TestOrphansAreReaped makes 50 orphans by double fork; none may stay a
// zombie while the program runs.
func TestOrphansAreReaped(t *testing.T) {
	s := start(t, `for i in $(seq 50); do (sh -c ":" & ) ; done; (sh -c "sleep 0.1; exit 3" &); sleep 0.3; echo ready; exec sleep 60`)
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for zombies := zombiesOf(t, s.cmd.Process.Pid); zombies > 0; zombies = zombiesOf(t, s.cmd.Process.Pid) {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%d zombies stay", zombies)
		}
	}
}

// zombiesOf counts the dead children of a process that nobody waited for.
func zombiesOf(t *testing.T, parent int) (n int) {
	t.Helper()
	for _, p := range childrenOf(t, parent) {
		if p.state == "Z" {
			n++
		}
	}
	return n
}

// process is a line of /proc/PID/stat.
type process struct {
	pid, group, session int
	state               string
}

func childrenOf(t *testing.T, parent int) (children []process) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended meanwhile
		}
		var p process
		var ppid int
		line := string(data)
		_, err1 := fmt.Sscan(line, &p.pid)
		_, err2 := fmt.Sscan(line[strings.LastIndexByte(line, ')')+1:], &p.state, &ppid, &p.group, &p.session)
		if err1 == nil && err2 == nil && ppid == parent {
			children = append(children, p)
		}
	}
	return children
}

// TestLeftoversAreKilled leaves processes of every kind behind: obedient,
// deaf to SIGTERM, in another session. The polite one gets to say good-bye.
func TestLeftoversAreKilled(t *testing.T) {
	dir := t.TempDir()
	script := fmt.Sprintf(`
		sh -c 'trap "echo bye > %[1]s/bye; exit" TERM; echo $$ > %[1]s/polite; while :; do sleep 0.02; done' &
		sh -c 'trap "" TERM; echo x > %[1]s/deaf; while :; do sleep 0.05; done' &
		setsid sh -c 'echo x > %[1]s/session; exec sleep 1000' &
		while ! [ -e %[1]s/polite -a -e %[1]s/deaf -a -e %[1]s/session ]; do sleep 0.01; done
		exit 7`, dir)
	cmd := command(t, "run", "--", "sh", "-c", script)
	began := time.Now()
	code, _, stderr := finish(t, cmd) // which also waits for all that hold standard error
	if code != 7 {
		t.Errorf("exit code %d, want 7; %s", code, stderr)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("ended after %v", took)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "bye")); err != nil || string(got) != "bye\n" {
		t.Errorf("the polite one wrote %q, %v", got, err)
	}
}

// TestOutsideANamespace runs as an ordinary process, which must not signal
// anybody else.
func TestOutsideANamespace(t *testing.T) {
	bystander := exec.Command("sleep", "60")
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- bystander.Wait() }()
	code, _, _ := finish(t, exec.Command(initBinary(t), "run", "--", "sh", "-c", "exit 3"))
	if code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
	select {
	case err := <-ended:
		t.Errorf("another process was ended: %v", err)
	default:
	}
	_ = bystander.Process.Kill()
	<-ended
}

// TestBrokenLogPipe closes the reader of standard error: ocmt-init must go on.
func TestBrokenLogPipe(t *testing.T) {
	cmd := command(t, "run", "--", "sh", "-c", "exit 7")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	cmd.Stderr = w
	err = cmd.Run()
	w.Close()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("ended with %v, want exit code 7", err)
	}
}

func BenchmarkStart(b *testing.B) {
	path := initBinary(b)
	for name, argv := range map[string][]string{
		"by=direct":    {"/bin/true"},
		"by=ocmt-init": {path, "run", "--", "/bin/true"},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := exec.Command(argv[0], argv[1:]...).Run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
