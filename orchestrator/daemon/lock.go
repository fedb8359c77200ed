package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/home"
)

// homeLock is the lock of a home that this process has. The file says on a line
// each which process has it, where the home is, and which home it is.
type homeLock struct {
	file   *os.File
	before []string // the lines of whoever had it last
}

// lockHome takes the home for this process, so that a home has one daemon. The
// lock ends with the process, however it ends.
func lockHome(path string) (*homeLock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open the lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("cannot lock %s: %w", path, err)
		}
		return nil, fault.New(errdefs.ErrConflict, "daemon_running", "a daemon runs for this home already (process %s)", lockLines(path)[0]).
			WithHint("use that one (`ocmt status`), end it, or give this one another home with --home")
	}
	l := &homeLock{file: f, before: lockLines(path)}
	if err := l.write(l.before[1], l.before[2]); err != nil {
		f.Close()
		return nil, err
	}
	return l, nil
}

// Close gives the home back.
func (l *homeLock) Close() error { return l.file.Close() }

// claim notes which home this is and where. FailedPrecondition for the copy of a
// home that is still where it was: both have the same containers, and the
// daemon of one would end those of the other.
func (l *homeLock) claim(h home.Home, id string) error {
	if place := l.before[1]; place != "" && place != h.Dir() && l.before[2] == id && holds(h, place, id) {
		return fault.New(errdefs.ErrFailedPrecondition, "home_copied", "%s is a copy of the home %s, which is still there", h.Dir(), place).
			WithHint("remove one of the two; for a second home, give --home an empty directory and install the plugins there")
	}
	return l.write(h.Dir(), id)
}

// holds reports whether the directory is another one than h, and the home with
// the same id.
func holds(h home.Home, dir, id string) bool {
	own, err := os.Stat(h.Lock())
	if err != nil {
		return false
	}
	below, err := filepath.Rel(h.Dir(), h.Lock())
	if err != nil {
		return false
	}
	path := filepath.Join(dir, below)
	other, err := os.Stat(path)
	return err == nil && !os.SameFile(own, other) && lockLines(path)[2] == id
}

func (l *homeLock) write(dir, id string) error {
	text := fmt.Appendf(nil, "%d\n%s\n%s\n", os.Getpid(), dir, id)
	_, err := l.file.WriteAt(text, 0)
	if err = errors.Join(err, l.file.Truncate(int64(len(text)))); err != nil {
		return fmt.Errorf("cannot write the lock: %w", err)
	}
	return nil
}

// maxLock is how much of a lock file is read, bytes.
const maxLock = 16 << 10

// lockLines returns the three lines of a lock file, empty where there are none.
func lockLines(path string) []string {
	lines := make([]string, 3)
	f, err := os.Open(path)
	if err != nil {
		return lines
	}
	defer f.Close()
	text, _ := io.ReadAll(io.LimitReader(f, maxLock)) // what there is, counts
	for i, line := range bytes.SplitN(text, []byte{'\n'}, 4) {
		if i < len(lines) {
			lines[i] = strings.TrimSpace(string(line))
		}
	}
	return lines
}
