package containerd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/erofs/go-erofs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// imageDir is the beginning of the names of directories that images are
// mounted on, see mountImages.
const imageDir = "image-"

// mountByUs has a container's EROFS images be mounted by us, and returns them:
// gVisor mounts no such files, while other runtimes mount them in the
// container alone.
func (e *Engine) mountByUs(id string, oci *specs.Spec) (sources []string) {
	for i := range oci.Mounts {
		if m := &oci.Mounts[i]; m.Type == "erofs" {
			sources = append(sources, m.Source)
			m.Type, m.Source = "bind", e.imagePath(id, len(sources)-1)
			m.Options = append([]string{"bind", "rprivate"}, m.Options...)
		}
	}
	return sources
}

func (e *Engine) imagePath(id string, i int) string { return e.path(id, imageDir+strconv.Itoa(i)) }

// mountImages makes those mounts, in the host's view of files. They are there
// until the container is removed.
func (e *Engine) mountImages(id string, sources []string) error {
	for i, source := range sources {
		target := e.imagePath(id, i)
		err := os.MkdirAll(target, 0o700)
		if err == nil {
			err = unix.Mount(source, target, "erofs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, "")
		}
		if err != nil {
			return errors.Join(
				fmt.Errorf("cannot mount EROFS image %s for container %s, which takes root and Linux 6.12 or newer: %w: %w", source, id, err, errdefs.ErrFailedPrecondition),
				e.unmountImages(id))
		}
	}
	return nil
}

func (e *Engine) unmountImages(id string) error {
	targets, err := filepath.Glob(e.path(id, imageDir+"*"))
	for _, target := range targets {
		if failed := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); failed != nil && !errors.Is(failed, unix.EINVAL) { // that: not mounted
			err = errors.Join(err, fmt.Errorf("cannot unmount %s: %w: %w", target, failed, errdefs.ErrUnavailable))
		}
	}
	return err
}

// canMountImages tries, once, whether the kernel mounts an EROFS image file.
func (e *Engine) canMountImages() (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.imageMounts == nil {
		can, err := tryImageMount(e.dir)
		if err != nil {
			return false, err
		}
		e.imageMounts = &can
	}
	return *e.imageMounts, nil
}

// tryImageMount opens an EROFS image as a file system, without mounting it
// anywhere. Since Linux 6.12 that works for a file as well as for a device.
func tryImageMount(dir string) (bool, error) {
	file, err := os.CreateTemp(dir, "empty-*.erofs")
	if err != nil {
		return false, fmt.Errorf("cannot make an EROFS image: %w", err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	fsys := erofs.Create(file)
	if err := errors.Join(fsys.Mkdir("/", 0o755), fsys.Close(), file.Sync()); err != nil {
		return false, fmt.Errorf("cannot make an EROFS image: %w", err)
	}
	fd, err := unix.Fsopen("erofs", unix.FSOPEN_CLOEXEC)
	if err == nil {
		defer unix.Close(fd) //nolint:errcheck // nothing was made by it
		err = errors.Join(
			unix.FsconfigSetString(fd, "source", file.Name()),
			unix.FsconfigSetFlag(fd, "ro"),
			unix.FsconfigCreate(fd))
	}
	if errors.Is(err, unix.EPERM) { // only root may try, and the engine is root
		return false, fmt.Errorf("cannot try: %w", err)
	}
	return err == nil, nil
}
