package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// volume is an ext4 file system of the suite's own, in a file.
type volume struct{ file, at string }

// newVolume makes and mounts one of so many MiB. The test's end unmounts it.
func (s *suite) newVolume(t *testing.T, size int64) (*volume, error) {
	t.Helper()
	v := &volume{file: filepath.Join(s.dir, "volume"), at: filepath.Join(s.dir, "disk")}
	f, err := os.Create(v.file)
	if err != nil {
		return nil, err
	}
	err = errors.Join(f.Truncate(size<<20), f.Close(), os.MkdirAll(v.at, 0o711))
	if err != nil {
		return nil, err
	}
	// Nothing is kept for root, who would not notice a full disk otherwise.
	if _, err := output(s.ctx, "mkfs.ext4", "-q", "-m", "0", v.file); err != nil {
		return nil, err
	}
	if err := v.mount(s.ctx); err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		_ = v.thaw()
		v.unmount()
		_ = os.Remove(v.file)
	})
	return v, os.Chmod(v.at, 0o711)
}

func (v *volume) mount(ctx context.Context) error {
	_, err := output(ctx, "mount", "-o", "loop", v.file, v.at)
	return err
}

// unmount takes away what is mounted below too.
func (v *volume) unmount() {
	for _, at := range append(mountsBelow(v.at), v.at) {
		_ = syscall.Unmount(at, syscall.MNT_DETACH)
	}
}

// mend checks an unmounted file system and mounts it again, as a copy: another
// mount namespace of the host may still hold the broken one.
func (v *volume) mend(ctx context.Context) error {
	mended := v.file + "-mended"
	if _, err := output(ctx, "cp", "--sparse=always", v.file, mended); err != nil {
		return err
	}
	_ = os.Remove(v.file)
	v.file = mended
	_, err := output(ctx, "e2fsck", "-fy", v.file)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 { // there were errors, which it mended
		err = nil
	}
	if err != nil {
		return err
	}
	return v.mount(ctx)
}

// fill takes all the space; what it returns gives it back.
func (v *volume) fill() (free func() error, err error) {
	path := filepath.Join(v.at, "filler")
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for block := make([]byte, 1<<20); len(block) > 0; {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			block = block[:len(block)/2]
		} else if err != nil {
			return nil, err
		}
	}
	return func() error { return os.Remove(path) }, f.Sync()
}

// The ioctls of linux/fs.h that package unix has no names for.
const (
	fiFreeze = 0xc0045877
	fiThaw   = 0xc0045878
)

// freeze has every write to the file system wait, thaw lets them go on.
func (v *volume) freeze() error { return control(v.at, fiFreeze) }
func (v *volume) thaw() error   { return control(v.at, fiThaw) }

func control(dir string, request uint) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.IoctlSetInt(int(f.Fd()), request, 0)
}

// disk tries what a disk under the home may do.
func (s *suite) disk(t *testing.T, e engine) {
	v, err := s.newVolume(t, 256)
	if err != nil {
		for _, name := range []string{fullDisk, slowDisk, readOnlyDisk} {
			s.report.omit(name, e.title(), "no file system of the suite's own: "+err.Error())
		}
		t.Skip(err)
	}
	r := s.newRig(t, e, v.at, 3)
	s.fillUp(t, r, v)
	s.slow(t, r, v)
	s.readOnly(t, r, v)
}

// The names of these faults.
const (
	fullDisk     = "a full disk under the home"
	slowDisk     = "a slow disk, every write waits up to 400 ms"
	readOnlyDisk = "a disk that goes read-only, as ext4 does at an error"
)

// fullFor is how long the disk is full under a plugin that ended: longer than
// it takes to give up one that ends by its own fault.
const fullFor = 15 * time.Second

// fillUp fills the disk for a while, during which a plugin ends.
func (s *suite) fillUp(t *testing.T, r *rig, v *volume) {
	t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, 3*time.Minute)
	defer cancel()
	id := s.pick(ctx, r)
	free, err := v.fill()
	if err != nil {
		t.Fatal(err)
	}
	broken := r.refusedOrAnswered(ctx, 5*time.Second, r.plugins...)
	pid, err := r.census.runnerOf(id)
	broken = append(broken, says(errors.Join(err, kill(pid)))...)
	broken = append(broken, r.refusedOrAnswered(ctx, fullFor, r.others(id)...)...)
	if _, err := r.ocmt(ctx, "status"); err != nil {
		broken = append(broken, "status on a full disk: "+err.Error())
	}
	if err := free(); err != nil {
		t.Fatal(err)
	}
	freed := time.Now()
	broken = append(broken, r.backBy(ctx, id, freed.Add(time.Minute))...)
	// How often a start was tried in vain meanwhile is up to the delays.
	list, err := r.list(ctx)
	broken = append(broken, says(err)...)
	r.restarts[id] = max(1, list[id].Restarts)
	s.afterDisk(t, r, fullDisk, id, 1, freed, broken)
	if list, err := r.list(ctx); err == nil && list[id].State == "crashlooped" { // reported; what follows is not about it
		_, _ = r.ocmt(ctx, "plugins", "reset", id)
	}
}

// refusedOrAnswered calls plugins that run for a while: each call is answered,
// or refused with a class, within a second.
func (r *rig) refusedOrAnswered(ctx context.Context, long time.Duration, plugins ...string) []string {
	var broken []string
	for end := time.Now().Add(long); time.Now().Before(end) && len(broken) == 0; {
		for _, id := range plugins {
			at := time.Now()
			_, err := r.who(ctx, id, 5*time.Second)
			if took := time.Since(at); err != nil && (took > time.Second || fault.Of(err).Code == "internal") {
				broken = append(broken, fmt.Sprintf("a call was refused after %s: %v", took, err))
			}
		}
		until(ctx, time.Now().Add(200*time.Millisecond))
	}
	return broken
}

// afterDisk waits until everything answers again and reports.
func (s *suite) afterDisk(t *testing.T, r *rig, name, id string, restarted int, mended time.Time, broken []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, 2*time.Minute)
	defer cancel()
	p := r.startProbe(ctx, paceOfProbe, r.plugins...)
	broken = append(broken, r.settle(ctx, p, mended, time.Minute)...)
	p.stop()
	o := p.worst(mended, r.plugins...)
	run := tally{
		Recovery: []int64{o.recovered.Milliseconds()}, Down: o.down.Milliseconds(), Calls: o.calls, Failed: o.failed + o.slow,
		Restarted: restarted, InFlight: "none", Broken: append(broken, r.violations(ctx)...),
	}
	s.report.add(r.engine, r.engine.version(ctx), name, run)
	s.say(t, r, name, id, o, run)
}

// slow freezes the file system for most of every half second. That is a slow
// disk: what is written is written in the end.
func (s *suite) slow(t *testing.T, r *rig, v *volume) {
	t.Helper()
	const long, frozen, thawed = 10 * time.Second, 400 * time.Millisecond, 100 * time.Millisecond
	ctx, cancel := context.WithTimeout(s.ctx, 3*time.Minute)
	defer cancel()
	id := s.pick(ctx, r)
	p := r.startProbe(ctx, paceOfProbe, r.plugins...)
	begun, killed := time.Now(), false
	var broken []string
	for time.Since(begun) < long {
		if err := v.freeze(); err != nil {
			t.Fatal(err)
		}
		if !killed && time.Since(begun) > long/2 {
			pid, err := r.census.runnerOf(id)
			broken, killed = append(broken, says(errors.Join(err, kill(pid)))...), true
			r.restarts[id]++
		}
		until(ctx, time.Now().Add(frozen))
		if err := v.thaw(); err != nil {
			t.Fatal(err)
		}
		until(ctx, time.Now().Add(thawed))
	}
	p.stop()
	broken = append(broken, p.worst(begun, r.others(id)...).interrupted()...)
	s.afterDisk(t, r, slowDisk, id, 1, time.Now(), broken)
}

// readOnly has the file system refuse every write, as ext4 does once it met
// an error. Only another mount mends that, so the daemon is stopped for it.
func (s *suite) readOnly(t *testing.T, r *rig, v *volume) {
	t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, 3*time.Minute)
	defer cancel()
	if _, err := output(ctx, "mount", "-o", "remount,abort", v.at); err != nil {
		s.report.omit(readOnlyDisk, r.engine.title(), err.Error())
		return
	}
	broken := r.refusedOrAnswered(ctx, 5*time.Second, r.plugins...)
	at := time.Now()
	if _, err := r.client.Status(ctx, tenant); err != nil || time.Since(at) > time.Second {
		broken = append(broken, fmt.Sprintf("status on a read-only disk took %s: %v", time.Since(at), err))
	}
	if err := r.daemon.end(syscall.SIGTERM, 90*time.Second); err != nil {
		broken = append(broken, err.Error())
		_ = r.daemon.end(syscall.SIGKILL, 10*time.Second)
	}
	if left := r.census.members(); len(left) > 0 {
		broken = append(broken, fmt.Sprintf("%d processes of plugins outlive the stop", len(left)))
	}
	v.unmount()
	if err := v.mend(ctx); err != nil {
		t.Fatal(err)
	}
	mended := time.Now()
	if err := r.serve(ctx); err != nil {
		t.Fatal(err)
	}
	broken = append(broken, says(r.answer(ctx))...)
	s.afterDisk(t, r, readOnlyDisk, "all", len(r.plugins), mended, broken)
}
