package main

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// call32 makes a system call without arguments as 32-bit programs do.
func call32(number uintptr) uintptr

// foreignCalls ask for the process's number by the tables of system calls that
// are not this architecture's own.
var foreignCalls = map[string]func() syscall.Errno{
	"i386": func() syscall.Errno {
		const getpid = 20
		if result := int32(call32(getpid)); result < 0 {
			return syscall.Errno(-result)
		}
		return 0
	},
	"x32": func() syscall.Errno {
		const x32 = 1 << 30
		_, _, errno := syscall.RawSyscall(x32|unix.SYS_GETPID, 0, 0, 0)
		return errno
	},
}
