// Syscalls is the attackers' way to the kernel from Node. Its first argument
// names a set of attempts. It prints a JSON object of what became of each: the
// name of the error, or a text that begins with "ok".
//
// No attempt does harm if it is let through: what would end or change the
// machine is asked for with arguments that the kernel refuses after it has
// looked at who asks.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// outcomes are what became of attempts.
type outcomes map[string]string

// sets are the attempts that are more than one call.
var sets = map[string]func(args []string) outcomes{
	"clone":   clones,
	"foreign": foreign,
	"memfd":   memfd,
	"handles": handles,
	"netlink": netlink,
	"tty":     tty,
	"ptrace":  trace,
	"ipc":     ipc,
	"ambient": ambient,
	"devices": devices,
	"bomb":    bomb,
	"linger":  linger,
	"true":    func([]string) outcomes { return outcomes{"ran": "ok"} },
}

func main() {
	runtime.LockOSThread() // what a thread is refused, it is refused itself
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "syscalls: no set was named")
		os.Exit(2)
	}
	name, args := os.Args[1], os.Args[2:]
	found := outcomes{}
	switch {
	case sets[name] != nil:
		found = sets[name](args)
	case calls[name] != nil:
		for _, attempt := range slices.Sorted(maps.Keys(calls[name])) {
			found[attempt] = calls[name][attempt].make()
		}
	default:
		fmt.Fprintln(os.Stderr, "syscalls: there is no set", name)
		os.Exit(2)
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		os.Exit(1)
	}
}

// call is a system call.
type call struct {
	number uintptr
	args   [6]uintptr
}

func (c call) make() string {
	_, _, errno := syscall.RawSyscall6(c.number, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
	return became(errno)
}

// became says how an attempt ended.
func became(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case !errors.As(err, &errno):
		return err.Error()
	case errno == 0:
		return "ok"
	}
	if name := unix.ErrnoName(errno); name != "" {
		return name
	}
	return "E" + strconv.Itoa(int(errno))
}

// kept holds what system calls point at.
var kept [][]byte

// text is a pointer to a string for the kernel.
func text(s string) uintptr {
	b := append([]byte(s), 0)
	kept = append(kept, b)
	return uintptr(unsafe.Pointer(&b[0]))
}

// zeros is a pointer to n zero bytes.
func zeros(n int) uintptr {
	b := make([]byte, n)
	kept = append(kept, b)
	return uintptr(unsafe.Pointer(&b[0]))
}
