package seccomp

import (
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// table returns the names of an architecture's system calls, as libseccomp
// spells them, from the constants in golang.org/x/sys/unix.
func table(t *testing.T, arch string) map[string]bool {
	t.Helper()
	found, err := build.Import("golang.org/x/sys/unix", ".", build.FindOnly)
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(found.Dir, "zsysnum_linux_"+arch+".go"), nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, decl := range file.Decls {
		constants, _ := decl.(*ast.GenDecl)
		for _, spec := range constants.Specs {
			if value, ok := spec.(*ast.ValueSpec); ok {
				names[strings.ToLower(strings.TrimPrefix(value.Names[0].Name, "SYS_"))] = true
			}
		}
	}
	if names["fstatat"] { // one call, which arm64's constants have under this name
		names["newfstatat"] = true
	}
	if len(names) < 300 {
		t.Fatalf("%d system calls on %s: the table was not found", len(names), arch)
	}
	return names
}

// TestNamesExist looks every name up, since a runtime skips those that it does
// not know: a typing error would allow nothing, or refuse nothing.
func TestNamesExist(t *testing.T) {
	amd64, arm64 := table(t, "amd64"), table(t, "arm64")
	var named, onOneOnly []string
	for _, rule := range OCI().Syscalls {
		named = append(named, rule.Names...)
	}
	slices.Sort(named)
	for _, name := range slices.Compact(named) {
		if !amd64[name] {
			t.Errorf("%s is no system call of amd64", name)
		}
		if !arm64[name] {
			onOneOnly = append(onOneOnly, name)
		}
	}
	// What arm64 never had, as it has the newer call with "at" and the like.
	want := []string{
		"access", "alarm", "arch_prctl", "chmod", "chown", "creat", "dup2", "epoll_create", "epoll_ctl_old", "epoll_wait",
		"eventfd", "fork", "futimesat", "getpgrp", "inotify_init", "lchown", "link", "lstat", "mkdir", "open", "pause", "pipe", "poll",
		"readlink", "rename", "rmdir", "select", "signalfd", "stat", "symlink", "time", "unlink", "utime", "utimes", "vfork",
	}
	if diff := cmp.Diff(want, onOneOnly); diff != "" {
		t.Errorf("system calls of amd64 alone (-want +got):\n%s", diff)
	}
	for _, name := range hostile {
		if !amd64[name] && !arm64[name] {
			t.Errorf("%s is refused, and there is no such call", name)
		}
	}
}

// TestArchitectures leaves out the two other ways into an amd64 kernel, whose
// numbers mean other calls: the ones of 32-bit programs, and x32.
func TestArchitectures(t *testing.T) {
	want := []specs.Arch{specs.ArchX86_64, specs.ArchAARCH64}
	if diff := cmp.Diff(want, OCI().Architectures); diff != "" {
		t.Error(diff)
	}
}
