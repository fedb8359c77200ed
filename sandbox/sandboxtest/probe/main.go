// Command probe is the workload of the conformance suite: a static program
// that looks at its sandbox from inside, tries what should be refused, and
// prints what happened. Its first argument says what to do.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/sandbox/sandboxtest/internal/report"
)

// commands by name. Play, in package sandboxtest, knows the first few too.
var commands = map[string]func(args []string) int{
	"exit":     func(args []string) int { return number(args[0]) },
	"print":    printLines,
	"line":     printLine,
	"sleep":    sleep,
	"describe": describe,

	"sandbox":  inside,
	"create":   func(args []string) int { return attempt(create(args[0])) },
	"read":     func(args []string) int { return attempt(read(args[0])) },
	"fill":     func(args []string) int { return attempt(fill(args[0])) },
	"exec":     func(args []string) int { return attempt(copyAndExec(args[0])) },
	"spawn":    func(args []string) int { return attempt(spawn(number(args[0]))) },
	"open":     func(args []string) int { return attempt(open(number(args[0]))) },
	"crash":    func([]string) int { return attempt(crash()) },
	"abort":    abort,
	"eat":      func(args []string) int { return eat(number(args[0])) },
	"listen":   func(args []string) int { return attempt(listen(args[0])) },
	"connect":  func(args []string) int { return attempt(connect(args[0])) },
	"syscalls": func([]string) int { return answer(syscalls()) },
	"masked":   func(args []string) int { return answer(sizes(args)) },

	"foreign":      func([]string) int { return answer(foreign()) },
	"foreign call": func(args []string) int { return foreignCall(args[0]) },
	"run memory":   func([]string) int { return attempt(runMemory()) },
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "probe: unknown command")
		os.Exit(2)
	}
	os.Exit(commands[os.Args[1]](os.Args[2:]))
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(2)
	}
	return n
}

func answer(v any) int {
	if err := json.NewEncoder(os.Stdout).Encode(v); err != nil {
		return 1
	}
	return 0
}

func attempt(a report.Attempt) int { return answer(a) }

// printLines prints n lines, the odd ones on standard error, and with a second
// argument waits for SIGTERM then.
func printLines(args []string) int {
	for i := range number(args[0]) {
		out := os.Stdout
		if i%2 == 1 {
			out = os.Stderr
		}
		fmt.Fprintf(out, "line %d\n", i)
	}
	if len(args) > 1 {
		return sleep([]string{args[1]})
	}
	return 0
}

// printLine prints n bytes without a new line.
func printLine(args []string) int {
	fmt.Fprint(os.Stdout, strings.Repeat("x", number(args[0])))
	return 0
}

// sleep waits for SIGTERM and returns the code of the argument; a negative one
// ignores the signal.
func sleep(args []string) int {
	code := number(args[0])
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	fmt.Fprintln(os.Stdout, "sleeping")
	for range signals {
		if code >= 0 {
			return code
		}
	}
	return 1
}

func describe([]string) int {
	dir, _ := os.Getwd()
	host, _ := os.Hostname()
	return answer(report.Process{
		Args: os.Args, Env: os.Environ(), Dir: dir, Hostname: host,
		UID: os.Getuid(), GID: os.Getgid(),
	})
}

func inside(files []string) int {
	r := report.Kernel{PID: os.Getpid(), Status: map[string]string{}, Files: map[string]string{}}
	r.Groups, _ = os.Getgroups()
	set, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	r.NoNewPrivs = err == nil && set == 1
	for _, line := range lines("/proc/self/status") {
		key, value, _ := strings.Cut(line, ":")
		r.Status[key] = strings.TrimSpace(value)
	}
	if interfaces, err := net.Interfaces(); err == nil {
		for _, i := range interfaces {
			r.Interfaces = append(r.Interfaces, i.Name)
		}
	}
	r.Core, r.OpenFiles = limit(unix.RLIMIT_CORE), limit(unix.RLIMIT_NOFILE)
	for _, line := range lines("/proc/self/mountinfo") {
		left, right, _ := strings.Cut(line, " - ")
		f, kind := strings.Fields(left), strings.Fields(right)
		r.Mounts = append(r.Mounts, report.Mount{Target: f[4], Type: kind[0], Options: strings.Split(f[5], ",")})
	}
	for _, path := range files {
		if data, err := os.ReadFile(path); err == nil {
			r.Files[path] = strings.TrimSpace(string(data))
		}
	}
	return answer(r)
}

// sizes returns the bytes that can be read of each file, or the entries of each
// directory; what is not there is left out.
func sizes(paths []string) map[string]int {
	all := map[string]int{}
	for _, path := range paths {
		if info, err := os.Stat(path); err != nil {
			continue
		} else if info.IsDir() {
			entries, _ := os.ReadDir(path)
			all[path] = len(entries)
			continue
		}
		file, err := os.Open(path)
		if err != nil {
			all[path] = 0
			continue
		}
		n, _ := io.CopyN(io.Discard, file, 1<<16) // some have no end
		all[path] = int(n)
		_ = file.Close()
	}
	return all
}

func lines(path string) []string {
	data, _ := os.ReadFile(path)
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

func limit(which int) [2]uint64 {
	var l unix.Rlimit
	_ = unix.Getrlimit(which, &l)
	return [2]uint64{l.Cur, l.Max}
}

// errName is the name of the errno in err, or else its text.
func errName(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return ""
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

func create(path string) report.Attempt {
	return report.Attempt{Error: errName(os.WriteFile(path, []byte("written\n"), 0o644))}
}

func read(path string) report.Attempt {
	data, err := os.ReadFile(path)
	return report.Attempt{Error: errName(err), Text: string(data)}
}

func fill(path string) report.Attempt {
	file, err := os.Create(path)
	if err != nil {
		return report.Attempt{Error: errName(err)}
	}
	defer file.Close()
	n, err := io.Copy(file, endless{})
	return report.Attempt{Error: errName(err), Count: n}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// copyAndExec runs a copy of the probe from path, which noexec refuses.
func copyAndExec(path string) report.Attempt {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return report.Attempt{Error: errName(err)}
	}
	if err := os.WriteFile(path, self, 0o755); err != nil {
		return report.Attempt{Error: "write: " + errName(err)}
	}
	return report.Attempt{Error: errName(exec.CommandContext(context.Background(), path, "exit", "0").Run())}
}

// runMemory runs a copy of the probe that is in no file system.
func runMemory() report.Attempt {
	for _, flags := range []int{unix.MFD_EXEC, 0, unix.MFD_NOEXEC_SEAL} {
		fd, err := unix.MemfdCreate("program", flags)
		if err != nil {
			continue
		}
		if got := copyAndExec("/proc/self/fd/" + strconv.Itoa(fd)); got.Error == "" {
			return got
		}
	}
	return report.Attempt{Error: "EACCES"}
}

// spawn starts n children, or as many as it may.
func spawn(n int) report.Attempt {
	var a report.Attempt
	for range n {
		child := exec.CommandContext(context.Background(), "/proc/self/exe", "sleep", "0")
		if err := child.Start(); err != nil {
			a.Error = errName(err)
			break
		}
		a.Count++
	}
	return a
}

// crash names the signal that ended a child that aborted, and says whether the
// kernel wrote its core.
func crash() report.Attempt {
	child := exec.CommandContext(context.Background(), "/proc/self/exe", "abort")
	child.Env = []string{"GOTRACEBACK=crash"} // or Go's own handler would exit
	if err := child.Run(); child.ProcessState == nil {
		return report.Attempt{Error: errName(err)}
	}
	status, _ := child.ProcessState.Sys().(syscall.WaitStatus)
	if status.CoreDump() {
		return report.Attempt{Error: "core dumped"}
	}
	return report.Attempt{Error: unix.SignalName(status.Signal())}
}

// abort ends the process by SIGABRT.
func abort([]string) int {
	_ = unix.Kill(os.Getpid(), unix.SIGABRT)
	select {}
}

// open opens n files, or as many as it may.
func open(n int) report.Attempt {
	var a report.Attempt
	for range n {
		if _, err := unix.Open("/dev/null", unix.O_RDONLY, 0); err != nil {
			a.Error = errName(err)
			break
		}
		a.Count++
	}
	return a
}

// eat uses n bytes of memory and keeps them.
func eat(n int) int {
	hoard := [][]byte{}
	for eaten := 0; eaten < n; eaten += 1 << 20 {
		hoard = append(hoard, bytes.Repeat([]byte{1}, 1<<20))
	}
	fmt.Fprintln(os.Stdout, "ate", len(hoard), "MiB")
	return 0
}

// listen binds an address on the loopback device and talks to itself.
func listen(address string) report.Attempt {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return report.Attempt{Error: errName(err)}
	}
	defer listener.Close()
	go func() {
		if c, err := listener.Accept(); err == nil {
			_, _ = c.Write([]byte("hello"))
			_ = c.Close()
		}
	}()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return report.Attempt{Error: errName(err)}
	}
	defer c.Close()
	text, err := io.ReadAll(c)
	return report.Attempt{Error: errName(err), Text: string(text)}
}

// connect says hello on a unix socket and reads what comes back.
func connect(path string) report.Attempt {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return report.Attempt{Error: errName(err)}
	}
	defer c.Close()
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		return report.Attempt{Error: errName(err)}
	}
	text, err := io.ReadAll(c)
	return report.Attempt{Error: errName(err), Text: string(text)}
}
