package audit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// disk is a disk that fails as a test says.
type disk struct {
	mu       sync.Mutex
	write    error // of writes, after half of the bytes
	sync     error // of syncs; what was not synced is lost, as the kernel may do it
	truncate error
	hang     chan struct{} // syncs wait until it is closed
}

func (d *disk) set(change func(*disk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
}

func (d *disk) now() disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return disk{write: d.write, sync: d.sync, truncate: d.truncate, hang: d.hang}
}

func (d *disk) open(path string) (file, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	return &faulty{file: f, path: path, disk: d}, nil
}

type faulty struct {
	file
	path string
	disk *disk

	mu       sync.Mutex
	unsynced [][2]int64
}

func (f *faulty) WriteAt(p []byte, offset int64) (int, error) {
	if err := f.disk.now().write; err != nil {
		n, _ := f.file.WriteAt(p[:len(p)/2], offset)
		return n, err
	}
	f.mu.Lock()
	f.unsynced = append(f.unsynced, [2]int64{offset, int64(len(p))})
	f.mu.Unlock()
	return f.file.WriteAt(p, offset)
}

func (f *faulty) Truncate(size int64) error {
	if err := f.disk.now().truncate; err != nil {
		return err
	}
	return f.file.Truncate(size)
}

func (f *faulty) Sync() error {
	d := f.disk.now()
	if d.hang != nil {
		<-d.hang
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if d.sync != nil {
		for _, part := range f.unsynced {
			_, _ = f.file.WriteAt(make([]byte, part[1]), part[0])
		}
	}
	f.unsynced = nil
	if d.sync != nil {
		return d.sync
	}
	return f.file.Sync()
}

func faultyLog(t *testing.T) (dirs, *disk, *Log) {
	d, bad := newDirs(t), &disk{}
	return d, bad, d.open(t, func(o *Options) { o.open = bad.open })
}

// A disk that is full in the middle of a record: the caller hears it, Healthy
// says it, nothing of the record stays, and the log goes on by itself.
func TestFullInTheMiddleOfARecord(t *testing.T) {
	for name, truncate := range map[string]error{"it can be cut off": nil, "it cannot be cut off at once": syscall.EIO} {
		t.Run(name, func(t *testing.T) {
			d, bad, l := faultyLog(t)
			write(t, l, 0, 5)
			bad.set(func(d *disk) { d.write, d.truncate = syscall.ENOSPC, truncate })
			for range 3 {
				for _, do := range []func(context.Context, Record) error{l.Write, l.WriteSync} {
					err := do(t.Context(), call(99))
					if !errdefs.IsResourceExhausted(err) && truncate == nil || err == nil {
						t.Fatalf("on a full disk: %v, want ResourceExhausted", err)
					}
					if fault.Of(err).Hint == "" || !fault.Of(err).Retryable {
						t.Errorf("%v lacks a hint, or is not retryable", err)
					}
				}
			}
			if err := l.Healthy(); err == nil {
				t.Error("Healthy = nil on a full disk")
			}
			if r, err := d.verify(t); err != nil {
				t.Errorf("Verify meanwhile: %+v, %v", r, err)
			}
			bad.set(func(d *disk) { d.write, d.truncate = nil, nil })
			if err := l.Healthy(); err != nil {
				t.Errorf("Healthy = %v after there was room", err)
			}
			write(t, l, 5, 10)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			checkRequests(t, d.read(t, ""), 10)
			d.mustVerify(t)
			resumed := d.read(t, ActionResumed)
			if len(resumed) != 1 || !strings.Contains(string(resumed[0].Details), `"refused":6`) {
				t.Errorf("resumed records %v, want one with 6 refused", resumed)
			}
		})
	}
}

// After a failed fsync the system may have dropped what it was to write: it is
// written again before a sync counts.
func TestFailedSync(t *testing.T) {
	d, bad, l := faultyLog(t)
	bad.set(func(d *disk) { d.sync = syscall.EIO })
	write(t, l, 0, 1) // acknowledged; the sync that follows loses it
	if err := l.WriteSync(t.Context(), call(1)); !errdefs.IsUnavailable(err) {
		t.Fatalf("WriteSync = %v, want Unavailable", err)
	}
	if err := l.Write(t.Context(), call(99)); !errdefs.IsUnavailable(err) {
		t.Errorf("Write = %v, want Unavailable", err)
	}
	if err := l.Healthy(); !errdefs.IsUnavailable(err) {
		t.Errorf("Healthy = %v, want Unavailable", err)
	}
	bad.set(func(d *disk) { d.sync = nil })
	if err := l.WriteSync(t.Context(), call(2)); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	checkRequests(t, d.read(t, ""), 3)
	d.mustVerify(t)
}

// A log without callers mends itself too.
func TestRecoversWithoutCallers(t *testing.T) {
	d, bad, l := faultyLog(t)
	bad.set(func(d *disk) { d.write = syscall.ENOSPC })
	if err := l.Write(t.Context(), call(0)); err == nil {
		t.Fatal("Write = nil on a full disk")
	}
	bad.set(func(d *disk) { d.write = nil })
	deadline := time.Now().Add(10 * time.Second)
	for len(d.read(t, ActionResumed)) == 0 {
		if time.Now().After(deadline) {
			t.Fatal("it did not try again")
		}
		<-time.After(50 * time.Millisecond)
	}
}

// A disk that hangs stops writers once they are too far ahead, and they can
// give up.
func TestBackPressure(t *testing.T) {
	d, bad, l := faultyLog(t)
	hang := make(chan struct{})
	bad.set(func(d *disk) { d.hang = hang })
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	r := call(0)
	r.Details = strings.Repeat("x", 15<<10)
	var err error
	n := 0
	for ; err == nil; n++ {
		err = l.Write(ctx, r)
	}
	if !errdefs.IsDeadlineExceeded(err) {
		t.Errorf("Write = %v, want DeadlineExceeded", err)
	}
	if written := n * (15 << 10); written > maxBehind+(1<<20) {
		t.Errorf("%d bytes were taken, want about %d", written, maxBehind)
	}
	close(hang)
	bad.set(func(d *disk) { d.hang = nil })
	if err := l.Write(t.Context(), r); err != nil {
		t.Errorf("Write = %v once the disk works", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := len(d.read(t, "")); got != n {
		t.Errorf("%d records, want %d", got, n)
	}
	d.mustVerify(t)
}

func TestOpenOnAFullDisk(t *testing.T) {
	d, bad := newDirs(t), &disk{write: syscall.ENOSPC}
	opts := d.options()
	opts.open = bad.open
	if _, err := Open(t.Context(), opts); !errdefs.IsResourceExhausted(err) {
		t.Fatalf("Open = %v, want ResourceExhausted", err)
	}
	d.open(t) // the lock is free, and what was left is mended
	d.mustVerify(t)
}

// The same on a file system that really is full.
func TestFullFileSystem(t *testing.T) {
	root := smallFS(t)
	d := dirs{filepath.Join(root, "audit"), filepath.Join(t.TempDir(), "keys")}
	l := d.open(t, func(o *Options) { o.SegmentSize = 64 << 10 })
	n := 0
	var err error
	for ; err == nil && n < 1e5; n++ {
		err = l.Write(t.Context(), call(n))
	}
	n-- // the last one was refused
	if !errdefs.IsResourceExhausted(err) {
		t.Fatalf("after %d records: %v, want ResourceExhausted", n, err)
	}
	if err := l.WriteSync(t.Context(), call(n)); !errdefs.IsResourceExhausted(err) {
		t.Errorf("WriteSync = %v, want ResourceExhausted", err)
	}
	if err := l.Healthy(); !errdefs.IsResourceExhausted(err) {
		t.Errorf("Healthy = %v, want ResourceExhausted", err)
	}
	if err := os.Remove(filepath.Join(root, "ballast")); err != nil {
		t.Fatal(err)
	}
	if err := l.Healthy(); err != nil {
		t.Fatalf("Healthy = %v after space was freed", err)
	}
	write(t, l, n, n+100)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	checkRequests(t, d.read(t, ""), n+100)
	if r := d.mustVerify(t); r.Unsigned != 0 || r.Epochs != 1 {
		t.Errorf("report %+v", r)
	}
}

// smallFS mounts a file system of 1 MiB with a file "ballast" on it.
func smallFS(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		required := strings.Contains(os.Getenv("E2E_REQUIRE"), "docker") && os.Getuid() == 0
		if errors.Is(err, unix.EPERM) && !required {
			t.Skipf("this user may not mount a small file system: %v", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 512<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
