package main

import "golang.org/x/sys/unix"

// machineCode reads the process id by int 0x80, as 32-bit programs call the
// kernel: push rbx; mov eax, 20; int 0x80; pop rbx; ret.
var machineCode = []byte{0x53, 0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0x5b, 0xc3}

// x32Bit marks a call of the x32 interface.
const x32Bit = 0x40000000

func init() { //nolint:gochecknoinits // calls that one architecture has
	calls["emulation"]["modify_ldt"] = call{unix.SYS_MODIFY_LDT, args{0, zeros(64), 64}}
	calls["emulation"]["iopl"] = call{unix.SYS_IOPL, args{3}}
	calls["emulation"]["ioperm"] = call{unix.SYS_IOPERM, args{0x80, 1, 1}}
	calls["emulation"]["uselib"] = call{unix.SYS_USELIB, args{text("/plugin/syscalls")}}
	calls["emulation"]["sysfs"] = call{unix.SYS_SYSFS, args{3}}
	calls["emulation"]["ustat"] = call{unix.SYS_USTAT, args{0, zeros(64)}}
}
