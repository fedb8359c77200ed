package main

import "syscall"

// foreignCalls is empty: a 64-bit program has no way to 32-bit calls.
var foreignCalls map[string]func() syscall.Errno
