package logfile

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/sandbox"
)

// errClosed is why lines are lost that come after [Writer.Close].
var errClosed = errors.New("the log is closed")

// Writer keeps the output of one container. Make it with [Open].
type Writer struct {
	// Logger is told when lines begin to be lost because they cannot be
	// written, once until one can be. Set it before the first Copy; nil
	// discards.
	Logger *slog.Logger

	dir   string
	size  int64 // bytes per file
	files int

	mu      sync.Mutex
	file    *os.File // nil until the first record, and after it could not be written
	number  uint64   // of file
	used    int64    // bytes of file
	failing bool
	closed  bool
}

// Open makes dir, if need be, for the output of one container in at most files
// files of at most size bytes each, and continues what is there. A record that
// was not written to its end is dropped. InvalidArgument for bounds that hold
// nothing.
func Open(dir string, size int64, files int) (*Writer, error) {
	if size < sandbox.MinLogSize || files < 1 {
		return nil, fmt.Errorf("cannot keep a log in %d files of %d bytes: at least one of %d is needed: %w",
			files, size, sandbox.MinLogSize, errdefs.ErrInvalidArgument)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make a log directory: %w: %w", err, errdefs.ErrUnavailable)
	}
	w := &Writer{dir: dir, size: size, files: files}
	if err := w.resume(); err != nil {
		return nil, fmt.Errorf("cannot continue the log: %w: %w", err, errdefs.ErrUnavailable)
	}
	return w, nil
}

// resume opens the newest file for more records.
func (w *Writer) resume() error {
	all, err := numbers(w.dir)
	if err != nil || len(all) == 0 {
		return err
	}
	w.number = all[len(all)-1]
	if err := w.forget(w.files); err != nil {
		return err
	}
	w.file, err = os.OpenFile(path(w.dir, w.number), os.O_RDWR|os.O_APPEND, 0)
	if err == nil {
		w.used, err = cut(w.file)
	}
	if err != nil && w.file != nil {
		w.file.Close()
	}
	return err
}

// cut drops what follows the last record of a file, and the end that an
// earlier writer came to, and returns the size of what is left.
func cut(file *os.File) (int64, error) {
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	size := info.Size()
	begin := max(0, size-maxRecord)
	tail := make([]byte, size-begin)
	if _, err := file.ReadAt(tail, begin); err != nil {
		return 0, err
	}
	end := bytes.LastIndexByte(tail, '\n') + 1
	if end == 0 && begin > 0 { // no records of ours: the next one begins a file
		return math.MaxInt32, nil
	}
	tail = tail[:end]
	if rest, ended := bytes.CutSuffix(tail, []byte(ending)); ended && (len(rest) == 0 || rest[len(rest)-1] == '\n') {
		tail = rest
	}
	left := begin + int64(len(tail))
	if left == size {
		return size, nil
	}
	return left, file.Truncate(left)
}

// forget removes all files but the newest ones.
func (w *Writer) forget(keep int) error {
	all, err := numbers(w.dir)
	if err != nil {
		return err
	}
	for _, number := range all[:max(0, len(all)-keep)] {
		if err := os.Remove(path(w.dir, number)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// append writes whole records: all of them, or none and an error.
func (w *Writer) append(records []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return errClosed
	}
	err := w.write(records)
	if err != nil && !w.failing {
		cmp.Or(w.Logger, slog.New(slog.DiscardHandler)).Warn("cannot keep the output of a container", "directory", w.dir, "error", err)
	}
	w.failing = err != nil
	return err
}

func (w *Writer) write(records []byte) error {
	if w.file == nil || w.used+int64(len(records)+len(ending)) > w.size {
		if err := w.rotate(); err != nil {
			return err
		}
	}
	n, err := w.file.Write(records)
	if err == nil {
		w.used += int64(n)
		return nil
	}
	if undo := w.file.Truncate(w.used); undo != nil { // what follows begins a file
		w.file.Close()
		w.file = nil
	}
	return err
}

// rotate begins a file, having made room for it.
func (w *Writer) rotate() error {
	if err := w.forget(w.files - 1); err != nil {
		return err
	}
	file, err := os.OpenFile(path(w.dir, w.number+1), os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if w.file != nil {
		w.file.Close()
	}
	w.file, w.number, w.used = file, w.number+1, 0
	return nil
}

// Close says that no more output follows: those who follow the log end when
// they have read it. It is for a container that has ended. A process that ends
// while the container goes on needs not close its Writer.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.file == nil {
		w.closed = true
		return nil
	}
	w.closed = true
	_, err := w.file.WriteString(ending)
	if err = errors.Join(err, w.file.Close()); err != nil {
		return fmt.Errorf("cannot end the log: %w: %w", err, errdefs.ErrUnavailable)
	}
	return nil
}
