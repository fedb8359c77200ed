package state

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

const (
	blockSize   = 4096
	bytesPerIno = 16384 // a file that is smaller on average runs out of inodes first
	inodeSize   = 256
	journalSize = 4 << 20 // the least that there is
	// The kernel keeps a fiftieth, at most 4096 blocks, for its own needs
	// (ext4_calculate_resv_clusters).
	reservedMax = 4096 * blockSize
	// What else is not for files: group descriptors and room for more of them,
	// bitmaps, the directories that there are.
	otherSize = 1 << 20
	// A journal takes at most half of what is free.
	minImage = 9 << 20
)

// imageSize is how large the file of a volume is in which size bytes can be
// written.
func imageSize(size int64) int64 {
	whole := size + journalSize + otherSize
	whole += whole*inodeSize/(bytesPerIno-inodeSize) + 2*whole/(8*blockSize) // inodes, bitmaps
	whole += min(whole/49, reservedMax)
	return max((whole+blockSize-1)/blockSize*blockSize, minImage)
}

// features are those of kernels since 3.18, so that no newer mke2fs takes some
// that the running kernel cannot mount.
const features = "none,has_journal,ext_attr,dir_index,filetype,extent,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum,resize_inode,64bit"

// format makes the file of a volume, with nothing in it.
func format(ctx context.Context, v Volume) error {
	f, err := os.OpenFile(v.Image, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("cannot make the state: %w", err)
	}
	if err := errors.Join(f.Truncate(imageSize(v.Size)), f.Close()); err != nil {
		return fmt.Errorf("cannot make the state: %w", err)
	}
	owner := strconv.FormatUint(uint64(v.UID), 10)
	_, out, err := run(ctx, "mkfs.ext4", "-q", "-F", "-b", strconv.Itoa(blockSize), "-I", strconv.Itoa(inodeSize), "-i", strconv.Itoa(bytesPerIno),
		"-m", "0", "-O", features, "-J", "size="+strconv.Itoa(journalSize>>20),
		"-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner="+owner+":"+owner, v.Image)
	if err != nil {
		return fmt.Errorf("cannot make a file system for the state: %w: %s", err, out)
	}
	return nil
}

// run runs a program of e2fsprogs and returns its exit code, which is an error
// too unless it is 0, and what it printed.
func run(ctx context.Context, name string, args ...string) (code int, out string, err error) {
	path, err := tool(name)
	if err != nil {
		return 0, "", err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	text, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		code = exit.ExitCode()
	}
	const most = 2 << 10
	return code, strings.TrimSpace(string(text[max(0, len(text)-most):])), err
}

// tool finds a program of e2fsprogs, which the search path of people often
// leaves out.
func tool(name string) (string, error) {
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if err != nil {
			path, err = exec.LookPath(dir + name)
		}
	}
	if err != nil {
		return "", fault.New(errdefs.ErrFailedPrecondition, "no_e2fsprogs", "the program %s is missing", name).
			WithHint("install the package e2fsprogs")
	}
	return path, nil
}

// superblock is what is needed of an ext4 superblock.
type superblock struct {
	size  int64 // bytes
	clean bool  // it was unmounted in order and knows of no error
}

// readSuperblock reads the superblock of an image or of its device.
func readSuperblock(r io.ReaderAt) (superblock, error) {
	const (
		at, magic  = 1024, 0xef53
		stateValid = 1
		recover    = 4 // the journal holds something
		is64bit    = 0x80
	)
	b := make([]byte, 1024)
	if _, err := r.ReadAt(b, at); err != nil {
		return superblock{}, fmt.Errorf("cannot read its superblock: %w: %w", err, errdefs.ErrDataLoss)
	}
	le := binary.LittleEndian
	if le.Uint16(b[0x38:]) != magic {
		return superblock{}, fmt.Errorf("it holds no file system: %w", errdefs.ErrDataLoss)
	}
	blocks := uint64(le.Uint32(b[0x4:]))
	incompatible := le.Uint32(b[0x60:])
	if incompatible&is64bit != 0 {
		blocks |= uint64(le.Uint32(b[0x150:])) << 32
	}
	return superblock{int64(blocks) * blockSize, le.Uint16(b[0x3a:]) == stateValid && incompatible&recover == 0}, nil
}

// check mends an image that nobody uses where it was not unmounted in order, and
// returns how large its file system is, bytes.
func check(ctx context.Context, image string) (int64, error) {
	f, err := os.Open(image)
	if err != nil {
		return 0, fmt.Errorf("cannot open the state: %w", err)
	}
	defer f.Close()
	super, err := readSuperblock(f)
	if err == nil && super.clean {
		return super.size, nil
	}
	if err := mend(ctx, image); err != nil {
		return 0, err
	}
	super, err = readSuperblock(f)
	return super.size, err
}

// mend has e2fsck mend what it can without losing anything.
func mend(ctx context.Context, image string, options ...string) error {
	const mended = 3 // or there was nothing to mend
	code, out, err := run(ctx, "e2fsck", append(options, "-p", image)...)
	switch {
	case err == nil, code > 0 && code <= mended:
		return nil
	case code == 0:
		return fmt.Errorf("cannot check the state: %w: %s", err, out)
	}
	return fault.New(errdefs.ErrDataLoss, "state_damaged", "the state of the plugin is damaged and cannot be mended without losing something: %s", out).
		WithHint("make a copy of %s, and see what `e2fsck -f` on it asks; or give up what it holds with `ocmt plugins uninstall`", image)
}

// grow makes an image that nobody uses, and that is in order, as large as it has
// to be.
func grow(ctx context.Context, image string, size int64) error {
	if err := mend(ctx, image, "-f"); err != nil { // as resize2fs wants it
		return err
	}
	if err := os.Truncate(image, size); err != nil {
		return fmt.Errorf("cannot make the state larger: %w", err)
	}
	if _, out, err := run(ctx, "resize2fs", image); err != nil {
		return fmt.Errorf("cannot make the state larger: %w: %s", err, out)
	}
	return nil
}
