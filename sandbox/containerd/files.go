package containerd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/sandbox"
)

// Directories below Options.Dir.
const (
	containersDir = "containers" // one directory per container
	runtimesDir   = "runtimes"   // programs that start runtimes
)

// Files in a container's directory.
const (
	recordFile = "record.json"
	logDir     = "log"
)

// record is what containerd does not keep of a container.
type record struct {
	LogSize int64         `json:"logSize"`          // sandbox.Limits.LogSize
	Images  []string      `json:"images,omitempty"` // that we mount, see mountByUs
	Started time.Time     `json:"started,omitzero"`
	Exit    *sandbox.Exit `json:"exit,omitempty"`
}

func (e *Engine) makeDirs() error {
	for _, dir := range []string{containersDir, runtimesDir} {
		if err := os.MkdirAll(filepath.Join(e.dir, dir), 0o700); err != nil {
			return fmt.Errorf("cannot make a directory for containerd: %w: %w", err, errdefs.ErrFailedPrecondition)
		}
	}
	return nil
}

// path is that of a file of a container.
func (e *Engine) path(id string, name ...string) string {
	return filepath.Join(append([]string{e.dir, containersDir, id}, name...)...)
}

// makeFiles makes a container's directory with its FIFOs.
func (e *Engine) makeFiles(id string, r record) error {
	if err := e.removeFiles(id); err != nil {
		return err
	}
	err := os.Mkdir(e.path(id), 0o700)
	for _, stream := range []string{sandbox.Stdout, sandbox.Stderr} {
		if err == nil {
			err = unix.Mkfifo(e.path(id, stream), 0o600)
		}
	}
	if err == nil {
		err = e.writeRecord(id, r)
	}
	if err != nil {
		return fmt.Errorf("cannot make the files of container %s: %w: %w", id, err, errdefs.ErrUnavailable)
	}
	return nil
}

func (e *Engine) removeFiles(id string) error {
	if err := e.unmountImages(id); err != nil {
		return err
	}
	if err := os.RemoveAll(e.path(id)); err != nil {
		return fmt.Errorf("cannot remove the files of container %s: %w: %w", id, err, errdefs.ErrUnavailable)
	}
	return nil
}

// writeRecord replaces a container's record. It never makes the directory,
// which Remove may have taken away.
func (e *Engine) writeRecord(id string, r record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	next, err := os.CreateTemp(e.path(id), recordFile+".")
	if err != nil {
		return err
	}
	_, err = next.Write(data)
	if err = errors.Join(err, next.Close()); err == nil {
		err = os.Rename(next.Name(), e.path(id, recordFile))
	}
	if err != nil {
		os.Remove(next.Name())
	}
	return err
}

// readRecord returns what is known: nothing, for a container that another
// directory has the files of.
func (e *Engine) readRecord(id string) record {
	var r record
	data, err := os.ReadFile(e.path(id, recordFile))
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.logger.Warn("cannot read the record of a container", "container", id, "error", err)
	}
	return r
}
