package pid1

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/sandbox/egress/forward"
)

const (
	// egressSocket is where the host puts the broker's socket when the
	// container may ever reach something.
	egressSocket = "/run/ocmt/egress.sock"
	// egressWait is how long the program waits for its network to be ready.
	egressWait = 2 * time.Second
	// home is the program's HOME, made when /state is there.
	home = "/state/home"
	// leftoverGrace is what processes get between SIGTERM and SIGKILL when the
	// program has ended.
	leftoverGrace = 500 * time.Millisecond
	// killWait bounds the wait for killed processes; the kernel ends what is
	// left when process 1 does.
	killWait = 2 * time.Second
)

// forwarded are the signals that are meant for the program.
var forwarded = []os.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM,
	unix.SIGUSR1, unix.SIGUSR2, unix.SIGCONT, unix.SIGWINCH,
}

// run is the life of the container: network, program, leftovers, exit code.
func run(argv []string) int {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, forwarded...)
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	// A broken log pipe must not end the container. Ignoring the signal would
	// be inherited by the program, catching it is not.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)

	path, err := exec.LookPath(argv[0])
	if err != nil {
		return cannotStart(argv[0], err)
	}
	makeHome()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	startEgress(ctx)

	program, err := syscall.ForkExec(path, argv, &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{0, 1, 2},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return cannotStart(argv[0], err)
	}
	status, err := await(program, signals, children)
	if err != nil {
		say("cannot wait for %s: %v", filepath.Base(argv[0]), err)
		return exitOwn
	}
	if os.Getpid() == 1 {
		killLeftovers(children)
	}
	say("%s ended: %s", filepath.Base(argv[0]), describe(status))
	return exitCode(status)
}

func cannotStart(name string, err error) int {
	say("cannot start %s: %v", name, err)
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return exitNotFound
	}
	return exitCannotExec
}

// makeHome makes HOME in the state directory. A container without one has its
// home elsewhere.
func makeHome() {
	err := os.Mkdir(home, 0o700)
	if err == nil || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EROFS) {
		return
	}
	say("cannot make %s: %v", home, err)
}

// startEgress gives the container its granted network, which may be none yet,
// and a name server. It returns when the first policy is in force, or after
// egressWait: the forwarder keeps trying.
func startEgress(ctx context.Context) {
	if _, err := os.Stat(egressSocket); err != nil {
		return
	}
	f := forward.New(forward.Options{
		Socket:  egressSocket,
		Logger:  slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Refused: newNotices(os.Stderr, os.Getenv("OCMT_PLUGIN"), os.Getenv("OCMT_TENANT")).refused,
	})
	go f.Run(ctx)
	select {
	case <-f.Ready():
	case <-time.After(egressWait):
		say("the network is not ready yet")
	}
}

// await forwards signals and reaps children until the program has ended.
func await(program int, signals, children <-chan os.Signal) (unix.WaitStatus, error) {
	for {
		select {
		case s := <-signals:
			// It may have ended just now: then there is nobody to tell.
			_ = unix.Kill(program, s.(syscall.Signal))
		case <-children:
			status, ended, err := reap(program)
			if ended || err != nil {
				return status, err
			}
		}
	}
}

// reap collects all children that have ended, and says how the program did if
// it is among them. No children at all is ECHILD.
func reap(program int) (status unix.WaitStatus, ended bool, err error) {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECHILD) && ended, err == nil && pid == 0:
			return status, ended, nil
		case err != nil:
			return status, ended, err
		case pid == program:
			status, ended = ws, true
		}
	}
}

// killLeftovers ends every other process of the PID namespace, with SIGTERM,
// a short grace and SIGKILL, and reaps them.
func killLeftovers(children <-chan os.Signal) {
	for _, step := range []struct {
		signal unix.Signal
		wait   time.Duration
	}{{unix.SIGTERM, leftoverGrace}, {unix.SIGKILL, killWait}} {
		if noneLeft() {
			return
		}
		_ = unix.Kill(-1, step.signal) // ESRCH: the last one has just ended
		if awaitNone(children, step.wait) {
			return
		}
	}
}

// awaitNone reaps until no child is left, which it says, or limit has passed.
func awaitNone(children <-chan os.Signal, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for !noneLeft() {
		select {
		case <-children:
		case <-timer.C:
			return noneLeft()
		}
	}
	return true
}

// noneLeft reaps and says whether there is no child any more. Every process of
// the namespace descends from process 1, so no child is no process.
func noneLeft() bool {
	_, _, err := reap(-1)
	return errors.Is(err, unix.ECHILD)
}

func describe(status unix.WaitStatus) string {
	if status.Signaled() {
		return fmt.Sprintf("signal %d (%s)", int(status.Signal()), unix.SignalName(status.Signal()))
	}
	return fmt.Sprintf("exit code %d", status.ExitStatus())
}

func exitCode(status unix.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
