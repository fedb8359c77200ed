// Syscalls is the attackers' way to the kernel from Node. It prints what became
// of each attempt as a JSON object.
package main

import (
	"encoding/json"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	if err := json.NewEncoder(os.Stdout).Encode(map[string]string{"getpid": became(syscall.Errno(0))}); err != nil {
		os.Exit(1)
	}
}

// became says how an attempt ended: the name of the error, or "ok".
func became(errno syscall.Errno) string {
	if errno == 0 {
		return "ok"
	}
	return unix.ErrnoName(errno)
}
