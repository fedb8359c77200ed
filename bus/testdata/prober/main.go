// Command prober runs in a container and tries to alter the socket directory
// that is mounted there. It prints a line for everything that worked.
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
)

const dir, socket = "/run/ocmt", "/run/ocmt/bus.sock"

func main() {
	for _, attempt := range []struct {
		name string
		do   func() error
	}{
		{"connect", connect},
		{"create", func() error { return os.WriteFile(dir+"/file", nil, 0o600) }},
		{"mkdir", func() error { return os.Mkdir(dir+"/sub", 0o700) }},
		{"symlink", func() error { return os.Symlink("/etc", dir+"/link") }},
		{"link", func() error { return os.Link(socket, dir+"/other.sock") }},
		{"listen", listen},
		{"unlink", func() error { return os.Remove(socket) }},
		{"rename", func() error { return os.Rename(socket, dir+"/moved.sock") }},
		{"chmod socket", func() error { return os.Chmod(socket, 0) }},
		{"chmod directory", func() error { return os.Chmod(dir, 0o777) }},
		{"chown", func() error { return os.Chown(dir, 1000, 1000) }},
		{"touch", func() error { return syscall.Utime(socket, &syscall.Utimbuf{}) }},
		{"remount", func() error { return syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_BIND, "") }},
		{"unmount", func() error { return syscall.Unmount(dir, syscall.MNT_DETACH) }},
	} {
		if err := attempt.do(); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", attempt.name, err)
			continue
		}
		fmt.Println(attempt.name)
	}
}

func connect() error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "INFO ") {
		return fmt.Errorf("got %q, %v, want INFO", line, err)
	}
	if _, err := conn.Write([]byte("CONNECT {}\r\nPING\r\n")); err != nil {
		return err
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil || strings.HasPrefix(line, "PONG") {
			return err
		}
	}
}

func listen() error {
	l, err := net.Listen("unix", dir+"/mine.sock")
	if err != nil {
		return err
	}
	return l.Close()
}
