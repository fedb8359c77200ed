// Command files does what its arguments say to files, and prints what came of
// each. An argument holds the operation and up to two paths or texts, separated
// by tabs.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	results := make([]string, 0, len(os.Args)-1)
	for _, arg := range os.Args[1:] {
		f := append(strings.Split(arg, "\t"), "", "")
		text, err := do(f[0], f[1], f[2])
		results = append(results, text+name(err))
	}
	if err := json.NewEncoder(os.Stdout).Encode(results); err != nil {
		os.Exit(1)
	}
}

func do(operation, path, other string) (string, error) {
	switch operation {
	case "read":
		data, err := os.ReadFile(path)
		return string(data), err
	case "list":
		var names []string
		err := filepath.WalkDir(path, func(p string, _ fs.DirEntry, err error) error {
			names = append(names, p)
			return err
		})
		return fmt.Sprint(len(names) - 1), err
	case "write":
		return "", os.WriteFile(path, []byte(other), 0o600)
	case "make":
		return "", os.MkdirAll(path, 0o700)
	case "remove":
		return "", os.Remove(path)
	case "rename":
		return "", os.Rename(path, other)
	case "link":
		return "", os.Link(path, other)
	case "exchange":
		return "", unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, other, unix.RENAME_EXCHANGE)
	case "unmount":
		return "", unix.Unmount(path, unix.MNT_DETACH)
	case "fill":
		return fill(path)
	}
	return "", errors.New("no such operation")
}

// fill writes until there is no room, and says how many MiB that took.
func fill(path string) (string, error) {
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	chunk := make([]byte, 64<<10)
	for written := 0; written < 1<<30; {
		n, err := f.Write(chunk)
		written += n
		if err != nil {
			return fmt.Sprintf("%d MiB ", written>>20), err
		}
	}
	return "", errors.New("no end")
}

func name(err error) string {
	if err == nil {
		return ""
	}
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return err.Error()
}
