package cli

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// Bounds of a directory that is packed. The bytes leave room for what a tar
// adds to maxPackFiles files.
const (
	maxPackFiles = 50_000
	maxPackBytes = v1.MaxUploadBody - maxPackFiles*4<<10
)

// packer writes a directory as a tar, with nothing in it that depends on who
// packs it or when.
type packer struct {
	ctx     context.Context // it lives as long as packDir
	root    *os.Root
	out     *tar.Writer
	skipped func(string)
	files   int
	bytes   int64
}

// packDir writes the directory dir to w as a tar, without node_modules and
// .git. Symbolic links that lead out of it, and what is neither file, link nor
// directory, are left out and told to skipped.
func packDir(ctx context.Context, dir string, w io.Writer, skipped func(string)) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fault.New(openClass(err), "unreadable_path", "cannot read the directory: %w", err)
	}
	defer func() { _ = root.Close() }() // it was read only
	p := &packer{ctx: ctx, root: root, out: tar.NewWriter(w), skipped: skipped}
	if err := fs.WalkDir(root.FS(), ".", p.add); err != nil {
		return fmt.Errorf("cannot pack %s: %w", dir, err)
	}
	return p.out.Close()
}

// add is a fs.WalkDirFunc.
func (p *packer) add(name string, entry fs.DirEntry, err error) error {
	switch {
	case p.ctx.Err() != nil:
		return p.ctx.Err()
	case errors.Is(err, fs.ErrPermission):
		return fault.New(errdefs.ErrInvalidArgument, "unreadable_path", "%w", err)
	case err != nil:
		return err
	case name == ".":
		return nil
	}
	if p.files++; p.files > maxPackFiles {
		return fault.New(errdefs.ErrInvalidArgument, "too_many_files", "it has more than %d files", maxPackFiles)
	}
	switch {
	case entry.Name() == ".git", entry.Name() == "node_modules":
		return skipDir(entry)
	case entry.IsDir():
		return p.out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755})
	case entry.Type() == fs.ModeSymlink:
		return p.addLink(name)
	case entry.Type().IsRegular():
		return p.addFile(name)
	}
	p.skipped(fmt.Sprintf("left out %s: it is no file, link or directory", name))
	return nil
}

// skipDir leaves an entry out, with all that is in it.
func skipDir(entry fs.DirEntry) error {
	if entry.IsDir() {
		return fs.SkipDir
	}
	return nil
}

// leadsInside says whether a link leads to something in the directory: os.Root
// follows no link out of it.
func (p *packer) leadsInside(name, target string) bool {
	_, err := p.root.Stat(name)
	return err == nil && !filepath.IsAbs(target)
}

// addLink keeps a link that leads inside.
func (p *packer) addLink(name string) error {
	target, err := p.root.Readlink(name)
	if err != nil {
		return err
	}
	if !p.leadsInside(name, target) {
		p.skipped(fmt.Sprintf("left out the link %s: %s is nothing inside the directory", name, target))
		return nil
	}
	return p.out.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777})
}

func (p *packer) addFile(name string) error {
	f, err := p.root.Open(name)
	if err != nil {
		return fault.New(openClass(err), "unreadable_path", "%w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if p.bytes += info.Size(); p.bytes > maxPackBytes {
		return fault.New(errdefs.ErrInvalidArgument, "upload_too_large", "its files have more than %s", byteSize(maxPackBytes)).
			WithHint("leave out what the plugin does not need at run time")
	}
	mode := int64(0o644)
	if info.Mode()&0o100 != 0 {
		mode = 0o755
	}
	if err := p.out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: info.Size(), Mode: mode}); err != nil {
		return err
	}
	if n, err := io.Copy(p.out, io.LimitReader(f, info.Size())); err != nil {
		return err
	} else if n < info.Size() {
		return fmt.Errorf("%s became shorter while it was read: %w", name, errdefs.ErrConflict)
	}
	return nil
}
