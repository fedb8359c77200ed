// Package state gives every plugin a file system of its own for what it writes,
// so that one which writes without end fills its own and nothing else: an ext4
// image in a sparse file, mounted once per plugin on a loop device, however
// many containers use it.
//
// It promises that
//
//   - a plugin can write what it was granted, and gets ENOSPC beyond that;
//   - an image is never on two loop devices at once, which would destroy it,
//     whoever still holds a mount of it;
//   - what could not be unmounted in order is checked before it is mounted, and
//     what is damaged beyond what `e2fsck -p` mends is left as it is;
//   - what a plain directory held before there was an image is in the image;
//   - nothing is mounted that nobody holds.
//
// The file is sparse: what is granted is not reserved, and what a plugin
// removes goes back to the host. So the grants of a host may add up to more
// than its disk has. Where the disk does fill up, writes fail with EIO, the file
// system turns read-only until the plugin starts anew, and what was synced
// before stays. Reserving all of it would take 50 GiB for 200 plugins that
// write nothing.
//
// Where this process cannot mount, [Measure] says how much a plain directory
// holds.
package state

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
)

// Volume is one plugin's file system.
type Volume struct {
	Image string // the file that holds it
	Dir   string // where it is mounted
	Size  int64  // bytes that can be written; of less than 6 MiB, up to 4 MiB more
	UID   uint32 // owns its root directory, as its group too
}

// Bounds of Volume.Size.
const (
	MinSize = 1 << 20
	MaxSize = 1 << 40
)

// Volumes are the volumes of a home that this process holds. Its methods may be
// called from several goroutines.
type Volumes struct {
	logger *slog.Logger

	mu   sync.Mutex
	held map[string]*holders // by Volume.Dir; one is never taken out
}

// holders of a volume. Who has the lock may change what is mounted.
type holders struct {
	sync.Mutex
	n int
}

// New returns Volumes of which none is held.
func New(logger *slog.Logger) *Volumes {
	return &Volumes{logger: logger, held: map[string]*holders{}}
}

func (s *Volumes) of(dir string) *holders {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.held[dir]
	if h == nil {
		h = &holders{}
		s.held[dir] = h
	}
	return h
}

// Hold has the volume mounted, nosuid, nodev and noexec, until as many calls of
// Release: what is mounted already is used, also when an earlier process
// mounted it, and what is missing is made. One of another size is made larger
// or smaller, but never while anybody uses it. FailedPrecondition says that what
// is in it does not fit, DataLoss that it is damaged.
//
// A first Hold takes 6 ms, a later one 2 ms, and the last Release 5 ms (256 MiB,
// 2 cores, local disk).
func (s *Volumes) Hold(ctx context.Context, v Volume) error {
	h := s.of(v.Dir)
	h.Lock()
	defer h.Unlock()
	if err := s.mount(ctx, v, h.n == 0); err != nil {
		return err
	}
	h.n++
	return nil
}

// Release gives up what Hold took; the last one unmounts. What fails may be
// tried again.
func (s *Volumes) Release(dir string) error {
	h := s.of(dir)
	h.Lock()
	defer h.Unlock()
	if h.n <= 1 {
		if err := unmount(dir); err != nil {
			return err
		}
	}
	h.n = max(h.n-1, 0)
	return nil
}

// Forget is Release without unmounting, for a process that leaves the volume to
// another one.
func (s *Volumes) Forget(dir string) {
	h := s.of(dir)
	h.Lock()
	defer h.Unlock()
	h.n = max(h.n-1, 0)
}

// Unmount takes off what an earlier process left mounted at dir or for its
// sake. FailedPrecondition when somebody holds it.
func (s *Volumes) Unmount(dir string) error {
	h := s.of(dir)
	h.Lock()
	defer h.Unlock()
	if h.n > 0 {
		return fmt.Errorf("cannot unmount %s, which is in use: %w", dir, errdefs.ErrFailedPrecondition)
	}
	for _, path := range []string{dir, newDir(dir), oldDir(dir)} {
		if err := unmount(path); err != nil {
			return err
		}
	}
	return nil
}

// Sweep unmounts the volumes below root that nobody holds.
func (s *Volumes) Sweep(root string) error {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("cannot read the mount table: %w", err)
	}
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		target := unescape.Replace(fields[4])
		if !strings.HasPrefix(target, root+"/") {
			continue
		}
		dir := strings.TrimSuffix(strings.TrimSuffix(target, newSuffix), oldSuffix)
		if err := s.Unmount(dir); err != nil && !errdefs.IsFailedPrecondition(err) {
			return err
		}
	}
	return nil
}

// unescape reads a path of the mount table.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// Names beside a volume's, while it is being replaced.
const (
	newSuffix = ".new"
	oldSuffix = ".old"
)

func newDir(dir string) string { return dir + newSuffix }
func oldDir(dir string) string { return dir + oldSuffix }

// CanMount tries, below dir, whether this process can make and mount volumes,
// and says why it cannot.
func CanMount(dir string) (ok bool, why string) {
	if os.Geteuid() != 0 {
		return false, "only root can mount"
	}
	if err := tryHold(dir); err != nil {
		return false, err.Error()
	}
	return true, ""
}

func tryHold(dir string) error {
	temp, err := os.MkdirTemp(dir, ".tmp-state-*")
	if err != nil {
		return err
	}
	v := Volume{Image: filepath.Join(temp, "image"), Dir: filepath.Join(temp, "state"), Size: MinSize, UID: 1}
	volumes := New(slog.New(slog.DiscardHandler))
	err = volumes.Hold(context.Background(), v)
	if rerr := volumes.Release(v.Dir); rerr != nil {
		return rerr // and leave alone what is mounted
	}
	if rerr := os.RemoveAll(temp); err == nil {
		err = rerr
	}
	return err
}
