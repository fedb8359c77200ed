package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bombs take one kind of thing until there is no more, and say how much there
// was: an amount, and the error that ended it.
var bombs = map[string]func() (int, error){
	"processes": processes,
	"threads":   threads,
	"zombies":   zombies,
	"memory":    memory,
	"inotify":   inotify,
	"pipes":     pipes,
	"sockets":   socketBuffers,
	"locked":    locked,
}

// most is what no bomb gets to, so that one that nothing stops ends all the
// same.
const most = 20_000

func bomb(args []string) outcomes {
	found := outcomes{}
	for _, name := range args {
		n, err := bombs[name]()
		found[name] = fmt.Sprintf("%s after %d", became(err), n)
	}
	return found
}

// processes are forks that stay.
func processes() (int, error) {
	for n := range most {
		pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
		if errno != 0 {
			return n, errno
		}
		if pid == 0 { // nobody waits for the end of its output
			_, _, _ = syscall.RawSyscall(unix.SYS_CLOSE_RANGE, 0, 2, 0)
		}
		for pid == 0 {
			_, _, _ = syscall.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
		}
	}
	return most, nil
}

// threads that stay. Go's runtime ends the process when it gets none.
func threads() (int, error) {
	for range most {
		started := make(chan bool)
		go func() {
			runtime.LockOSThread()
			close(started)
			select {}
		}()
		<-started
	}
	return most, nil
}

// zombies are children that end and that nobody waits for.
func zombies() (int, error) {
	for n := range most {
		pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
		if errno != 0 {
			return n, errno
		}
		if pid == 0 {
			_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
	}
	return most, nil
}

// memory maps and touches memory beside any heap.
func memory() (int, error) {
	const size = 8 << 20
	for n := range most {
		block, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_POPULATE)
		if err != nil {
			return n, err
		}
		for i := 0; i < size; i += 4096 {
			block[i] = 1
		}
	}
	return most, nil
}

func (c call) errno() syscall.Errno {
	_, _, errno := syscall.RawSyscall6(c.number, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
	return errno
}

func inotify() (int, error) {
	for n := range most {
		fd, err := unix.InotifyInit()
		if err != nil {
			return n, err
		}
		if _, err := unix.InotifyAddWatch(fd, "/tmp", unix.IN_ALL_EVENTS); err != nil {
			return n, err
		}
	}
	return most, nil
}

// pipes are made as large as they may be, and filled.
func pipes() (int, error) {
	var bytes int
	for range most {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_NONBLOCK); err != nil {
			return bytes, err
		}
		_, _ = unix.FcntlInt(uintptr(p[1]), unix.F_SETPIPE_SZ, 1<<20) // it stays small then
		for n, err := unix.Write(p[1], make([]byte, 1<<16)); err == nil; n, err = unix.Write(p[1], make([]byte, 1<<16)) {
			bytes += n
		}
	}
	return bytes, nil
}

// socketBuffers are filled by one who does not read.
func socketBuffers() (int, error) {
	var bytes int
	for range most {
		p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return bytes, err
		}
		for n, err := unix.Write(p[0], make([]byte, 1<<16)); err == nil; n, err = unix.Write(p[0], make([]byte, 1<<16)) {
			bytes += n
		}
	}
	return bytes, nil
}

// locked memory cannot be taken back.
func locked() (int, error) {
	const size = 1 << 20
	for n := range most {
		block, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err != nil {
			return n, err
		}
		if err := unix.Mlock(block); err != nil {
			return n, err
		}
	}
	return most, nil
}

// linger stays, deaf to every signal that it may be deaf to. With a number it
// first starts that many of its kind, each the child of the one before, with
// sessions of their own.
func linger(args []string) outcomes {
	signal.Ignore(syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGPIPE)
	if len(args) > 0 {
		if n, _ := strconv.Atoi(args[0]); n > 0 {
			child := exec.Command("/proc/self/exe", "linger", strconv.Itoa(n-1)) //nolint:noctx // it stays, that is the attack
			child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			if err := child.Start(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}
	for {
		time.Sleep(time.Hour) //nolint:forbidigo // there is nothing to wait for
	}
}
