package build

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// tree is the content of one layer: path without a leading slash to entry.
// Everything belongs to root, and nothing of the host enters: no owner, no
// time, no order.
type tree map[string]entry

type entry struct {
	kind byte  // tar.TypeReg, tar.TypeDir or tar.TypeSymlink
	mode int64 // permission bits, and the sticky bit of a directory
	link string
	data []byte
}

// file adds a regular file that nobody can execute.
func (t tree) file(name string, data []byte) { t.add(name, entry{tar.TypeReg, 0o644, "", data}) }

// program adds a regular file that everybody can execute.
func (t tree) program(name string, data []byte) { t.add(name, entry{tar.TypeReg, 0o755, "", data}) }

func (t tree) symlink(name, target string) { t.add(name, entry{tar.TypeSymlink, 0o777, target, nil}) }

func (t tree) dir(name string, mode int64) { t.add(name, entry{tar.TypeDir, mode, "", nil}) }

func (t tree) add(name string, e entry) {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if _, ok := t[dir]; !ok {
			t[dir] = entry{kind: tar.TypeDir, mode: 0o755}
		}
	}
	t[name] = e
}

// writeTo writes the tree as a tar archive that depends on nothing but the
// tree and the time that all its files get.
func (t tree) writeTo(w io.Writer, modTime time.Time) error {
	archive := tar.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(t)) {
		e := t[name]
		header := &tar.Header{
			Typeflag: e.kind, Name: name, Linkname: e.link, Mode: e.mode,
			Size: int64(len(e.data)), ModTime: modTime, Format: tar.FormatPAX,
		}
		if e.kind == tar.TypeDir {
			header.Name += "/"
		}
		if err := archive.WriteHeader(header); err != nil {
			return fmt.Errorf("cannot write %s: %w: %w", name, err, errdefs.ErrUnknown)
		}
		if _, err := archive.Write(e.data); err != nil {
			return fmt.Errorf("cannot write %s: %w: %w", name, err, errdefs.ErrUnknown)
		}
	}
	return archive.Close()
}

// layer is a tree as a layer of an image, not compressed: loading is then
// limited by the disk, and the blob's digest is the diff id.
type layer struct {
	tree    tree
	modTime time.Time
	hash    v1.Hash
	size    int64
}

func newLayer(t tree, modTime time.Time) (*layer, error) {
	hash, size := sha256.New(), &counter{}
	if err := t.writeTo(io.MultiWriter(hash, size), modTime); err != nil {
		return nil, err
	}
	sum := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(hash.Sum(nil))}
	return &layer{tree: t, modTime: modTime, hash: sum, size: size.n}, nil
}

func (l *layer) Digest() (v1.Hash, error)            { return l.hash, nil }
func (l *layer) DiffID() (v1.Hash, error)            { return l.hash, nil }
func (l *layer) Size() (int64, error)                { return l.size, nil }
func (l *layer) MediaType() (types.MediaType, error) { return types.DockerUncompressedLayer, nil }
func (l *layer) Compressed() (io.ReadCloser, error)  { return l.Uncompressed() }
func (l *layer) Uncompressed() (io.ReadCloser, error) {
	r, w := io.Pipe()
	go func() { w.CloseWithError(l.tree.writeTo(w, l.modTime)) }()
	return r, nil
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}
