package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// clones makes processes in name spaces of their own. Each ends at once.
func clones([]string) outcomes {
	found := outcomes{}
	for name, flag := range map[string]uintptr{
		"user": unix.CLONE_NEWUSER, "mount": unix.CLONE_NEWNS, "net": unix.CLONE_NEWNET, "pid": unix.CLONE_NEWPID,
		"ipc": unix.CLONE_NEWIPC, "uts": unix.CLONE_NEWUTS, "cgroup": unix.CLONE_NEWCGROUP,
		"user and mount": unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
	} {
		pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, flag|uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
		if errno == 0 && pid == 0 {
			_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
		if errno == 0 {
			_, _ = unix.Wait4(int(pid), nil, 0, nil) // it has no parent but us
		}
		found["clone "+name] = became(errno)
	}
	for _, kind := range []string{"mnt", "net", "pid", "user", "ipc", "uts", "cgroup"} {
		found["enter init's "+kind] = enter("/proc/1/ns/" + kind)
	}
	return found
}

func enter(path string) string {
	fd, err := unix.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		return became(err)
	}
	return became(unix.Setns(fd, 0))
}

// foreign calls the kernel by its other interfaces, each in a process of its
// own: what is refused there ends the thread that calls.
func foreign([]string) outcomes {
	found := outcomes{"int80": "ENOSYS", "x32": "ENOSYS"}
	if machineCode != nil {
		code, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err != nil {
			return outcomes{"int80": became(err)}
		}
		copy(code, machineCode)
		entry := &code[0]
		function := *(*func())(unsafe.Pointer(&struct{ p *uintptr }{(*uintptr)(unsafe.Pointer(&entry))}))
		found["int80"] = inChild(func() syscall.Errno {
			function()
			return 0
		})
	}
	if x32Bit != 0 {
		found["x32"] = inChild(call{unix.SYS_GETPID | x32Bit, args{}}.errno)
	}
	return found
}

// inChild calls do, which may not allocate, in a process of one thread, and
// says what became of it.
func inChild(do func() syscall.Errno) string {
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		return became(errno)
	}
	if pid == 0 {
		_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, uintptr(do()), 0, 0)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(int(pid), &status, 0, nil); err != nil {
		return became(err)
	}
	if status.Signaled() {
		return unix.SignalName(status.Signal())
	}
	return became(syscall.Errno(status.ExitStatus()))
}

// memfd runs a program that is in no file system.
func memfd([]string) outcomes {
	found := outcomes{}
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return outcomes{"read": became(err)}
	}
	for name, flags := range map[string]int{"plain": 0, "executable": unix.MFD_EXEC, "sealed": unix.MFD_NOEXEC_SEAL} {
		fd, err := unix.MemfdCreate("hostile", flags)
		if err != nil {
			found[name] = became(err)
			continue
		}
		file := os.NewFile(uintptr(fd), "memfd")
		if _, err := file.Write(program); err != nil {
			found[name] = became(err)
			continue
		}
		_ = file.Chmod(0o700) // a seal may forbid it
		path := "/proc/self/fd/" + strconv.Itoa(fd)
		_, err = exec.Command(path, "true").Output() //nolint:noctx // ends at once
		found[name] = became(err)
		argv := pointerTo(text("hostile"), 0)
		found[name+" by execveat"] = call{unix.SYS_EXECVEAT, args{uintptr(fd), text(""), argv, pointerTo(0), unix.AT_EMPTY_PATH | 0x10000}}.make()
	}
	return found
}

// pointerTo is a pointer to words.
func pointerTo(words ...uintptr) uintptr {
	b := make([]byte, 0, len(words)*8)
	for _, w := range words {
		b = append(b, (*[8]byte)(unsafe.Pointer(&w))[:]...)
	}
	return pointer(b)
}

// handles opens files of the host's file systems by their numbers, as the
// first escape from a container did: the root directory of most is 2.
func handles(dirs []string) outcomes {
	found := outcomes{}
	for _, dir := range dirs {
		if handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, dir, 0); err != nil {
			found["name of "+dir] = became(err)
		} else {
			found["name of "+dir] = "ok"
			_ = handle
		}
		at, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			found["root of "+dir] = became(err)
			continue
		}
		root := unix.NewFileHandle(1, []byte{2, 0, 0, 0, 0, 0, 0, 0})
		fd, err := unix.OpenByHandleAt(at, root, unix.O_RDONLY)
		found["root of "+dir] = became(err)
		if err == nil {
			names, _ := os.NewFile(uintptr(fd), "root").Readdirnames(4)
			found["root of "+dir] = fmt.Sprint("ok ", names)
		}
	}
	return found
}

// tty pushes input into terminals, and takes the console.
func tty([]string) outcomes {
	found := outcomes{}
	terminals, _ := filepath.Glob("/dev/pts/[0-9]*")
	for _, path := range append(terminals, "/dev/tty", "/dev/tty0", "/dev/tty1", "/dev/console", "/dev/vcs", "/dev/ttyS0") {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			found[path] = became(err)
			continue
		}
		found[path] = call{unix.SYS_IOCTL, args{uintptr(fd), unix.TIOCSTI, text("x")}}.make()
	}
	for fd := range uintptr(3) {
		found["descriptor "+strconv.Itoa(int(fd))] = call{unix.SYS_IOCTL, args{fd, unix.TIOCSTI, text("x")}}.make()
	}
	found["console"] = call{unix.SYS_IOCTL, args{0, unix.TIOCCONS}}.make()
	return found
}

// trace takes hold of processes: of the first one, and of the runner. What it
// takes hold of, it lets go as it ends.
func trace([]string) outcomes {
	found := outcomes{}
	for name, pid := range map[string]uintptr{"init": 1, "runner": uintptr(os.Getppid())} {
		local := pointerTo(zeros(8), 8)
		found["seize "+name] = call{unix.SYS_PTRACE, args{unix.PTRACE_SEIZE, pid, 0, 0}}.make()
		found["read "+name] = call{unix.SYS_PROCESS_VM_READV, args{pid, local, 1, local, 1, 0}}.make()
		found["write "+name] = call{unix.SYS_PROCESS_VM_WRITEV, args{pid, local, 1, pointerTo(1, 8), 1, 0}}.make()
		found["advise "+name] = call{unix.SYS_PROCESS_MADVISE, args{none, local, 1, 0, 0}}.make()
		fd, err := unix.PidfdOpen(int(pid), 0)
		if err != nil {
			found["descriptors of "+name] = became(err)
			continue
		}
		_, err = unix.PidfdGetfd(fd, 0, 0)
		found["descriptors of "+name] = became(err)
	}
	return found
}

// ipc looks for a segment of the host with a key, and makes one and a queue.
func ipc(keys []string) outcomes {
	found := outcomes{}
	for _, text := range keys {
		key, _ := strconv.Atoi(text)
		id, err := unix.SysvShmGet(key, 0, 0)
		found["host's segment"] = became(err)
		if err == nil {
			data, err := unix.SysvShmAttach(id, 0, unix.SHM_RDONLY)
			found["host's segment"] = fmt.Sprintf("ok %.16q %v", data, err)
		}
	}
	found["segment"] = call{unix.SYS_SHMGET, args{0, 4096, unix.IPC_CREAT | 0o600}}.make()
	found["semaphores"] = call{unix.SYS_SEMGET, args{0, 1, unix.IPC_CREAT | 0o600}}.make()
	found["messages"] = call{unix.SYS_MSGGET, args{0, unix.IPC_CREAT | 0o600}}.make()
	found["queue"] = call{unix.SYS_MQ_OPEN, args{text("hostile"), unix.O_CREAT | unix.O_RDWR, 0o600, 0}}.make()
	return found
}

// ambient speaks to an abstract socket of the host, and takes its name.
func ambient(names []string) outcomes {
	found := outcomes{}
	for _, name := range names {
		for kind, number := range map[string]int{"stream": unix.SOCK_STREAM, "datagram": unix.SOCK_DGRAM, "packets": unix.SOCK_SEQPACKET} {
			fd, err := unix.Socket(unix.AF_UNIX, number, 0)
			if err == nil {
				err = unix.Connect(fd, &unix.SockaddrUnix{Name: "@" + name})
			}
			found[kind+" "+name[:4]] = became(err)
		}
	}
	return found
}

// devices makes nodes of devices, where files may be made, and opens them.
func devices(dirs []string) outcomes {
	found := outcomes{}
	for _, dir := range dirs {
		for name, device := range map[string]struct {
			mode uint32
			dev  uint64
		}{
			"mem": {unix.S_IFCHR, unix.Mkdev(1, 1)}, "disk": {unix.S_IFBLK, unix.Mkdev(254, 0)}, "loop": {unix.S_IFBLK, unix.Mkdev(7, 0)},
			"null": {unix.S_IFCHR, unix.Mkdev(1, 3)}, "whiteout": {unix.S_IFCHR, 0},
		} {
			path := filepath.Join(dir, name)
			err := unix.Mknod(path, device.mode|0o666, int(device.dev))
			if err == nil && device.dev != 0 {
				if fd, openErr := unix.Open(path, unix.O_RDONLY, 0); openErr == nil {
					found["opened "+path] = "ok"
					_ = unix.Close(fd)
				}
			}
			found[path] = became(err)
		}
	}
	return found
}
