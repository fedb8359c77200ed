package config

import (
	"context"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"github.com/fsnotify/fsnotify"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

const (
	// debounce is how long the file must have been left alone before it is
	// read: editors write in several steps.
	debounce = 100 * time.Millisecond
	// recheck is how often the file is read without a reason, since the
	// directory may have been replaced or the kernel's queue have run over.
	recheck = 30 * time.Second
)

// Watch calls onChange with the file as it is now, and again whenever its
// content has changed, until ctx ends; then it returns nil. A file that cannot
// be understood is an error for onChange, and so is told once per content.
// Calls come one at a time. The directory may be missing and may come later.
func Watch(ctx context.Context, path string, onChange func(*File, error)) error {
	return watch(ctx, path, recheck, onChange)
}

func watch(ctx context.Context, path string, recheck time.Duration, onChange func(*File, error)) error {
	fsw, err := fsnotify.NewWatcher()
	if err != nil {
		return fault.New(errdefs.ErrResourceExhausted, "no_watch", "cannot watch %s: %w", path, err).
			WithHint("raise fs.inotify.max_user_instances with sysctl")
	}
	defer fsw.Close()
	path = filepath.Clean(path)
	w := watcher{path: path, onChange: onChange}
	look := func() {
		// Watched first, so that no change after the look is missed. It is
		// idempotent, and fails while there is no directory.
		_ = fsw.Add(filepath.Dir(path))
		w.look()
	}
	ticker := time.NewTicker(recheck)
	defer ticker.Stop()
	pending := time.NewTimer(0) // the first look comes at once
	defer pending.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case ev := <-fsw.Events:
			if ev.Name == path {
				pending.Reset(debounce)
			}
		case <-fsw.Errors: //nolint:errcheck // an overflow, for example: to look again is the answer to all of them
			pending.Reset(debounce)
		case <-pending.C:
			look()
		case <-ticker.C:
			look()
		}
	}
}

// watcher remembers what it told last.
type watcher struct {
	path     string
	onChange func(*File, error)
	told     string // names the content
}

// look reads the file and tells of it unless it is what was told last.
func (w *watcher) look() {
	data, err := read(w.path)
	content := "none"
	switch {
	case err != nil:
		content = "error " + err.Error()
	case data != nil:
		content = fmt.Sprintf("sha256 %x", sha256.Sum256(data))
	}
	if content == w.told {
		return
	}
	w.told = content
	if err != nil {
		w.onChange(nil, err)
		return
	}
	doc, err := parse(data)
	if err != nil {
		w.onChange(nil, at(w.path, err))
		return
	}
	w.onChange(doc.file, nil)
}
