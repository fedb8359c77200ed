package seal

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

const (
	maxLinkLen  = 4095 // the kernel's PATH_MAX without its NUL
	maxLinkHops = 40   // the kernel's own limit
)

// entry is a file, a directory or a symlink of a payload.
type entry struct {
	path   string // slash-separated; the root itself is not among the entries
	mode   fs.FileMode
	size   int64  // of a file
	target string // of a symlink
}

// perm is the mode that an entry is sealed with.
func (e entry) perm() fs.FileMode {
	if e.mode.IsDir() || e.mode&0o111 != 0 {
		return 0o755
	}
	return 0o644
}

// scan lists src in a stable order, parents first, and refuses what must not
// be sealed.
func scan(ctx context.Context, src fs.FS) ([]entry, error) {
	var entries []entry
	links := map[string]string{}
	err := fs.WalkDir(src, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("cannot read the files to seal: %w", err)
		}
		if p == "." {
			return ctx.Err()
		}
		e, err := inspect(src, p, d)
		if err != nil {
			return err
		}
		if e.mode&fs.ModeSymlink != 0 {
			links[p] = e.target
		}
		entries = append(entries, e)
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	for link := range links {
		if err := staysInside(links, link); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

func inspect(src fs.FS, p string, d fs.DirEntry) (entry, error) {
	info, err := d.Info()
	if err != nil {
		return entry{}, fmt.Errorf("cannot read the files to seal: %w", err)
	}
	e := entry{path: p, mode: info.Mode()}
	switch e.mode.Type() {
	case fs.ModeDir:
	case 0:
		e.size = info.Size()
	case fs.ModeSymlink:
		if e.target, err = fs.ReadLink(src, p); err != nil {
			return entry{}, fmt.Errorf("cannot read the files to seal: %w", err)
		}
		if e.target == "" || len(e.target) > maxLinkLen {
			return entry{}, refused("cannot seal the symlink %q: its target has %d bytes", p, len(e.target))
		}
	default:
		return entry{}, refused("cannot seal %q: it is neither a file nor a directory nor a symlink (%v)", p, e.mode.Type())
	}
	return e, nil
}

// staysInside follows a symlink as the kernel does, through the other links,
// and fails when it leaves the tree on its way.
func staysInside(links map[string]string, link string) error {
	at := split(path.Dir(link))
	rest := []string{path.Base(link)}
	for hops := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			if len(at) == 0 {
				return refused("cannot seal the symlink %q: it leaves the package", link)
			}
			at = at[:len(at)-1]
			continue
		}
		target, isLink := links[strings.Join(append(at[:len(at):len(at)], name), "/")]
		if !isLink {
			at = append(at, name)
			continue
		}
		if hops++; hops > maxLinkHops {
			return refused("cannot seal the symlink %q: it leads through more than %d symlinks", link, maxLinkHops)
		}
		if path.IsAbs(target) {
			return refused("cannot seal the symlink %q: it leads to an absolute path", link)
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return nil
}

func split(dir string) []string {
	if dir == "." {
		return nil
	}
	return strings.Split(dir, "/")
}

// countFiles counts all but directories.
func countFiles(entries []entry) int {
	n := 0
	for _, e := range entries {
		if !e.mode.IsDir() {
			n++
		}
	}
	return n
}
