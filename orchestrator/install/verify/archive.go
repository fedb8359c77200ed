package verify

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Budget bounds what may still be unpacked. One budget serves all archives of
// a payload.
type Budget struct {
	Files int   // entries of any kind
	Bytes int64 // of all files
}

// NewBudget returns the bounds of one payload: 200,000 entries and 2 GiB. The
// largest package known to be a plugin has 115 MB.
func NewBudget() *Budget { return &Budget{Files: 200_000, Bytes: 2 << 30} }

func (b *Budget) take(size int64) error {
	b.Files--
	b.Bytes -= size
	if b.Files < 0 || b.Bytes < 0 {
		return fault.New(errdefs.ErrResourceExhausted, "package_too_large", "the package with its dependencies is larger than 200,000 files or 2 GiB").
			WithHint(`leave out what the plugin does not need, with "files" in package.json`)
	}
	return nil
}

// MaxPath bounds the path of an archive's entry, in bytes.
const MaxPath = 1024

// Unpack says how an archive is unpacked.
type Unpack struct {
	Strip     int                    // leading path components to remove; what has no more is left out
	SkipLinks bool                   // leave links out, as npm does, instead of refusing what leaves
	Skip      func(name string) bool // entries to leave out, by their name after Strip; may be nil
	Budget    *Budget
}

// Tar unpacks a tar archive, compressed with gzip or not, into an empty
// directory. Files get the mode 0755 when any execute bit is set and else
// 0644; owners and times are dropped. Symlinks are made last, so that nothing
// is ever written through one. Absolute names, "..", links that leave, hard
// links and special files are refused.
func Tar(ctx context.Context, r io.Reader, dir *os.Root, o Unpack) error {
	plain, err := decompress(r)
	if err != nil {
		return err
	}
	u := unpacker{dir: dir, Unpack: o, links: map[string]string{}}
	archive := tar.NewReader(plain)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			if err := u.drain(plain); err != nil {
				return err
			}
			return u.makeLinks()
		}
		if err != nil {
			return badArchive("cannot read the archive: %w", err)
		}
		if err := u.add(h, archive); err != nil {
			return err
		}
	}
}

// Outline is what an archive of a package looks like.
type Outline struct {
	Flat    bool   // the package's files are at the top, and not in a directory
	Package []byte // package.json, at the top or one directory below; may be nil
}

// Scan reads an archive through and says what it looks like. It refuses what
// exceeds the budget, of which it takes nothing, and leaves the rest to [Tar].
func Scan(ctx context.Context, r io.Reader, budget Budget) (o Outline, err error) {
	plain, err := decompress(r)
	if err != nil {
		return o, err
	}
	archive := tar.NewReader(plain)
	for {
		if err := ctx.Err(); err != nil {
			return o, err
		}
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return o, nil
		}
		if err != nil {
			return o, badArchive("cannot read the archive: %w", err)
		}
		if err := budget.take(max(h.Size, 0)); err != nil {
			return o, err
		}
		dir, name := path.Split(path.Clean(h.Name))
		if dir == "" && (name == plugin.PackageFile || name == plugin.ManifestFile) {
			o.Flat = true
		}
		if name == plugin.PackageFile && (dir == "" || (!o.Flat && strings.Count(dir, "/") == 1)) {
			if o.Package, err = io.ReadAll(io.LimitReader(archive, plugin.MaxDescriptionFile)); err != nil {
				return o, badArchive("cannot read the archive: %w", err)
			}
		}
	}
}

func decompress(r io.Reader) (io.Reader, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	if magic, _ := buffered.Peek(2); string(magic) != "\x1f\x8b" {
		return buffered, nil
	}
	plain, err := gzip.NewReader(buffered)
	if err != nil {
		return nil, badArchive("cannot read the archive: %w", err)
	}
	return plain, nil
}

type unpacker struct {
	Unpack
	dir   *os.Root
	links map[string]string // by the link's name
}

func (u *unpacker) add(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return u.Budget.take(0)
	}
	name, err := u.place(h.Name)
	if err != nil {
		return err
	}
	if err := u.Budget.take(max(h.Size, 0)); err != nil {
		return err
	}
	if name == "." || (u.Skip != nil && u.Skip(name)) {
		return nil
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.check(name, u.dir.MkdirAll(name, 0o755))
	case tar.TypeReg:
		return u.check(name, u.write(name, h.FileInfo().Mode(), content))
	case tar.TypeSymlink, tar.TypeLink:
		return u.link(name, h)
	}
	return badArchive("the archive holds %q, which is neither a file nor a directory nor a symlink", plugin.Printable(h.Name, 200))
}

// place returns where an entry goes, or "." when it is left out.
func (u *unpacker) place(name string) (string, error) {
	switch {
	case len(name) > MaxPath:
		return "", badArchive("the archive holds a name of %d bytes, at most %d are allowed", len(name), MaxPath)
	case path.IsAbs(name) || strings.ContainsRune(name, 0) || !utf8.ValidString(name) || hasDotDot(name):
		return "", badArchive("the archive holds the name %q, which is not inside it", plugin.Printable(name, 200))
	}
	parts := strings.Split(path.Clean(name), "/")
	if len(parts) <= u.Strip {
		return ".", nil
	}
	return strings.Join(parts[u.Strip:], "/"), nil
}

func hasDotDot(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return true
		}
	}
	return false
}

func (u *unpacker) write(name string, mode fs.FileMode, content io.Reader) error {
	if err := u.dir.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	perm := fs.FileMode(0o644)
	if mode&0o111 != 0 {
		perm = 0o755
	}
	f, err := u.dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if errors.Is(err, fs.ErrExist) { // of two entries of one name the last counts
		if err := u.dir.Remove(name); err != nil {
			return err
		}
		f, err = u.dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, content); err != nil {
		return err
	}
	if err := f.Chmod(perm); err != nil { // whatever our umask is
		return err
	}
	return f.Close()
}

// drain reads what follows the archive's end, so that a compressed one that
// was cut off does not pass. Other bytes after a gzip stream are ignored, as
// npm does.
func (u *unpacker) drain(r io.Reader) error {
	n, err := io.Copy(io.Discard, io.LimitReader(r, u.Budget.Bytes+1))
	if err != nil && !errors.Is(err, gzip.ErrHeader) {
		return badArchive("cannot read the archive: %w", err)
	}
	u.Budget.Files++ // no entry of its own
	return u.Budget.take(n)
}

func (u *unpacker) link(name string, h *tar.Header) error {
	if u.SkipLinks {
		return nil
	}
	target := h.Linkname
	inside := path.Join(path.Dir(name), target)
	if h.Typeflag == tar.TypeLink || target == "" || path.IsAbs(target) || inside == ".." || strings.HasPrefix(inside, "../") {
		return badArchive("the archive holds the link %q to %q, which leaves it", plugin.Printable(h.Name, 200), plugin.Printable(target, 200))
	}
	u.links[name] = target
	return nil
}

func (u *unpacker) makeLinks() error {
	for name, target := range u.links {
		if err := u.check(name, u.dir.MkdirAll(path.Dir(name), 0o755)); err != nil {
			return err
		}
		if err := u.check(name, u.dir.Symlink(target, name)); err != nil {
			return err
		}
	}
	return nil
}

// check tells an archive that contradicts itself (a file where a directory
// must be) from a failure of ours.
func (u *unpacker) check(name string, err error) error {
	var onPath *fs.PathError
	var onLink *os.LinkError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &onPath) && !errors.As(err, &onLink):
		return badArchive("cannot read the archive: %w", err)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fault.New(errdefs.ErrResourceExhausted, "disk_full", "cannot unpack the archive: %w", err).
			WithHint("make room on the disk of the daemon's home")
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EIO), errors.Is(err, unix.EROFS):
		return fmt.Errorf("cannot unpack the archive: %w", err)
	}
	return badArchive("cannot unpack %q: %w", plugin.Printable(name, 200), err)
}

// MarkExecutables sets the mode 0755 on the files that the package.json in dir
// lists in "bin", as npm does.
func MarkExecutables(dir *os.Root) error {
	data, err := ReadFile(dir, plugin.PackageFile, plugin.MaxDescriptionFile)
	if err != nil || data == nil {
		return err
	}
	var pkg struct {
		Bin json.RawMessage `json:"bin"`
	}
	if json.Unmarshal(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), &pkg) != nil {
		return nil //nolint:nilerr // who reads it for its content complains
	}
	files := map[string]string{}
	var one string
	if json.Unmarshal(pkg.Bin, &one) == nil {
		files[""] = one
	} else if json.Unmarshal(pkg.Bin, &files) != nil {
		return nil //nolint:nilerr // absent, or of a form that npm ignores
	}
	for _, name := range files {
		name = path.Clean(name)
		if info, err := dir.Lstat(name); err == nil && info.Mode().IsRegular() {
			if err := dir.Chmod(name, 0o755); err != nil {
				return err
			}
		}
	}
	return nil
}

// ReadFile reads a regular file of a directory that others wrote to: it waits
// on no pipe, leaves the directory by no symlink, and fails with
// ResourceExhausted beyond limit bytes. A file that is not there is nil.
func ReadFile(dir *os.Root, name string, limit int64) ([]byte, error) {
	f, err := OpenFile(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fault.New(errdefs.ErrResourceExhausted, "file_too_large", "%s is larger than %d bytes", name, limit)
	}
	return data, nil
}

func badArchive(format string, args ...any) error {
	return fault.New(fault.ErrPlugin, "bad_archive", format, args...).
		WithHint("an archive of a plugin holds files and directories, as `npm pack` makes it")
}
