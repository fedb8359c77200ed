// Package deb reads what Debian publishes: packages (.deb), indexes of
// packages, the lists of mirrors that apt is configured with; and it orders
// Debian's version numbers.
//
// It reads only. Nothing here runs maintainer scripts, and nothing here
// verifies: callers verify the bytes before they hand them over.
package deb

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// maxUnpacked bounds what one member of a package may unpack to, in bytes.
const maxUnpacked = 512 << 20

// Read calls visit for every file of the package in b, in the archive's order,
// and returns the text of the package's control file.
func Read(b []byte, visit func(*tar.Header, io.Reader) error) (control []byte, err error) {
	members, err := members(b)
	if err != nil {
		return nil, fmt.Errorf("cannot read the package: %w", err)
	}
	if err := walk(members, "control.tar", func(h *tar.Header, r io.Reader) error {
		if strings.TrimPrefix(h.Name, "./") != "control" {
			return nil
		}
		control, err = io.ReadAll(r)
		return err
	}); err != nil {
		return nil, err
	}
	return control, walk(members, "data.tar", visit)
}

// walk visits the files of the member called name, whatever its compression.
func walk(members map[string][]byte, name string, visit func(*tar.Header, io.Reader) error) error {
	for _, ext := range []string{"", ".gz", ".xz", ".zst"} {
		b, ok := members[name+ext]
		if !ok {
			continue
		}
		r, err := unpack(b, ext)
		if err != nil {
			return fmt.Errorf("cannot read %s%s: %w: %w", name, ext, err, errdefs.ErrInvalidArgument)
		}
		defer r.Close()
		if err := walkTar(r, visit); err != nil {
			return fmt.Errorf("cannot read %s%s: %w", name, ext, err)
		}
		return nil
	}
	return fmt.Errorf("cannot read the package: it has no %s that can be unpacked: %w", name, errdefs.ErrInvalidArgument)
}

func walkTar(r io.Reader, visit func(*tar.Header, io.Reader) error) error {
	archive := tar.NewReader(r)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
		}
		if err := visit(header, archive); err != nil {
			return err
		}
	}
}

// unpack undoes the compression that ext names, up to maxUnpacked bytes.
func unpack(b []byte, ext string) (io.ReadCloser, error) {
	var r io.Reader = bytes.NewReader(b)
	closer := func() error { return nil }
	switch ext {
	case ".gz":
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		r = z
	case ".xz":
		z, err := xz.NewReader(r)
		if err != nil {
			return nil, err
		}
		r = z
	case ".zst":
		z, err := zstd.NewReader(r)
		if err != nil {
			return nil, err
		}
		r, closer = z, func() error { z.Close(); return nil }
	}
	return &bounded{r: r, left: maxUnpacked, closer: closer}, nil
}

// Unpack returns the content of b, which is compressed as the end of its name
// says.
func Unpack(b []byte, name string) ([]byte, error) {
	r, err := unpack(b, path.Ext(name))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// bounded is a reader that fails beyond a number of bytes, unlike
// io.LimitReader, which would make a cut-off archive look whole.
type bounded struct {
	r      io.Reader
	left   int64
	closer func() error
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("it unpacks to too many bytes: %w", errdefs.ErrResourceExhausted)
	}
	return n, err
}

func (b *bounded) Close() error { return b.closer() }

const (
	arMagic      = "!<arch>\n"
	arHeaderSize = 60
)

// members splits an ar archive, the outer form of a .deb.
func members(b []byte) (map[string][]byte, error) {
	rest, ok := bytes.CutPrefix(b, []byte(arMagic))
	if !ok {
		return nil, fmt.Errorf("it is no ar archive: %w", errdefs.ErrInvalidArgument)
	}
	found := map[string][]byte{}
	for len(rest) > 0 {
		if len(rest) < arHeaderSize || string(rest[58:60]) != "`\n" {
			return nil, fmt.Errorf("it has a broken member header: %w", errdefs.ErrInvalidArgument)
		}
		name := strings.TrimSuffix(strings.TrimRight(string(rest[:16]), " "), "/")
		size, err := strconv.ParseUint(strings.TrimRight(string(rest[48:58]), " "), 10, 40)
		rest = rest[arHeaderSize:]
		if err != nil || size > uint64(len(rest)) {
			return nil, fmt.Errorf("its member %q is cut off: %w", name, errdefs.ErrInvalidArgument)
		}
		if _, twice := found[name]; twice {
			return nil, fmt.Errorf("it has the member %q twice: %w", name, errdefs.ErrInvalidArgument)
		}
		found[name] = rest[:size]
		rest = rest[min(size+size%2, uint64(len(rest))):]
	}
	return found, nil
}
