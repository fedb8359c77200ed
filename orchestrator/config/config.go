// Package config owns config.json, the file in which people switch plugins on
// and off and configure them: it reads, checks, edits and watches it.
//
// The file is JSON in which comments and trailing commas are allowed. An edit
// leaves everything else in it as it was, byte for byte, and a file that
// cannot be understood is reported with line and column and never written.
// The file is no authority: it may enable, configure and narrow a plugin, and
// whatever else it says is for others to judge.
package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/tailscale/hujson"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// MaxSize bounds config.json, in bytes.
const MaxSize = 4 << 20

// PathFor returns where a tenant's config.json is within home. The tenant's
// name was checked by plugin.CheckTenant.
func PathFor(home, tenant string) string {
	if tenant == plugin.DefaultTenant {
		return filepath.Join(home, "config.json")
	}
	return filepath.Join(home, "tenants", tenant, "config.json")
}

// File is a config.json that was read and found sound. It does not change.
type File struct {
	entries  map[string]Entry
	installs map[string]Install
	strict   json.RawMessage
}

// Entry is plugins.entries.<id>.
type Entry struct {
	Enabled *bool           // nil if the file does not say, which means enabled
	Config  json.RawMessage // strict JSON of an object; nil if absent
	// Permissions narrows what the plugin was granted: strict JSON that
	// plugin.ReadPermissions accepts; nil if absent.
	Permissions json.RawMessage
	Hooks       HookPolicy
}

// HookPolicy is plugins.entries.<id>.hooks, OpenClaw's settings of a plugin's
// hooks.
type HookPolicy struct {
	AllowConversationAccess *bool // nil if the file does not say
	AllowPromptInjection    *bool // nil if the file does not say
	// Timeout bounds each handler, and Timeouts those of single events; zero
	// and absent if the file does not say. At most plugin.MaxHookTimeout.
	Timeout  time.Duration
	Timeouts map[string]time.Duration
}

// On reports whether the entry leaves the plugin switched on.
func (e Entry) On() bool { return e.Enabled == nil || *e.Enabled }

// Install is plugins.installs.<id>: a note for people. What is installed is
// in the store.
type Install struct {
	Source      plugin.Source
	Spec        string
	InstalledAt time.Time
}

// Load reads the file at path; a missing one is empty. InvalidArgument, with
// line and column, if it cannot be understood, and for what is no regular
// file; PermissionDenied if it may not be read.
func Load(path string) (*File, error) {
	data, err := read(path)
	if err != nil {
		return nil, err
	}
	doc, err := parse(data)
	if err != nil {
		return nil, at(path, err)
	}
	return doc.file, nil
}

// Entry returns what the file says of a plugin, and whether it does.
func (f *File) Entry(id string) (Entry, bool) {
	e, ok := f.entries[id]
	return e, ok
}

// Install returns the note of a plugin's installation, if there is one.
func (f *File) Install(id string) (Install, bool) {
	i, ok := f.installs[id]
	return i, ok
}

// Raw returns the whole document as strict JSON without comments, "{}" for an
// empty or missing file. The caller must not alter it.
func (f *File) Raw() json.RawMessage { return f.strict }

// read returns the file's bytes, nil if there is no file. It opens nothing
// but regular files: others than the owner of the home may be able to write
// here, and a link would have them read a file of another tenant, a pipe have
// ocmt wait for ever.
func read(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, syscall.ELOOP):
		return nil, invalid("%s is a symbolic link, which ocmt does not follow", path).
			WithHint("put the file itself in its place")
	}
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, unreadable(path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, invalid("%s is no regular file", path).WithHint("put a file in its place, or remove it")
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, unreadable(path, err)
	}
	if len(data) > MaxSize {
		return nil, invalid("%s is larger than %d MiB", path, MaxSize>>20).WithHint("remove from it what is no configuration")
	}
	if data == nil {
		data = []byte{}
	}
	return data, nil
}

func unreadable(path string, err error) error {
	var class error = errdefs.ErrInternal
	if errors.Is(err, fs.ErrPermission) {
		class = errdefs.ErrPermissionDenied
	}
	return fault.New(class, "config_unreadable", "cannot read %s: %w", path, err).
		WithHint("make it readable for the user that runs ocmt")
}

func invalid(format string, args ...any) *fault.Error {
	return fault.New(errdefs.ErrInvalidArgument, "invalid_config", format, args...)
}

// document is a parsed file: what it means, and its text as a tree.
type document struct {
	file *File
	tree hujson.Value
	bom  bool
}

// parse understands the bytes of a file; nil is a missing file. Its errors
// are *positioned.
func parse(data []byte) (*document, error) {
	if data == nil {
		data = []byte("{}\n")
	}
	text, bom, err := checkText(data)
	if err != nil {
		return nil, err
	}
	tree, err := parseTree(text)
	if err != nil {
		return nil, err
	}
	c := checker{text: text}
	file, err := c.file(&tree)
	if err != nil {
		return nil, err
	}
	strict := tree.Clone()
	strict.Minimize()
	file.strict = strict.Pack()
	return &document{file: file, tree: tree, bom: bom}, nil
}

// bytes returns the text of the document.
func (d *document) bytes() []byte {
	text := d.tree.Pack()
	if d.bom {
		return append([]byte(byteOrderMark), text...)
	}
	return text
}

// at turns the error of parse into one for users.
func at(path string, err error) error {
	var p *positioned
	if !errors.As(err, &p) {
		return fmt.Errorf("%s: %w", path, err)
	}
	return invalid("%s:%d:%d: %s", path, p.line, p.column, p.message).
		WithHint("mend line %d of the file; it was not altered", p.line).
		WithDetails(map[string]int{"line": p.line, "column": p.column})
}
