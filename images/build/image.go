package build

import (
	"errors"
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/ocmt/ocmt/images"
)

// part is one layer with what it is called in the image's history.
type part struct {
	title string
	tree  tree
}

// assemble makes an image of the parts.
func assemble(o Options, parts []part) (v1.Image, error) {
	created := v1.Time{Time: o.Lock.Created}
	config := &v1.ConfigFile{
		Architecture: o.Arch,
		OS:           "linux",
		Created:      created,
		Config: v1.Config{
			User:       user,
			Env:        []string{"PATH=/usr/bin"},
			WorkingDir: "/",
			Cmd:        []string{"/ocmt/init", "run", "--", "/usr/bin/node", "/ocmt/runner.js"},
		},
		RootFS: v1.RootFS{Type: "layers"},
	}
	image, err := mutate.ConfigFile(empty.Image, config)
	if err != nil {
		return nil, fmt.Errorf("cannot make the image: %w: %w", err, errdefs.ErrUnknown)
	}
	var layers []mutate.Addendum
	for _, part := range parts {
		layer, err := newLayer(part.tree, o.Lock.Created)
		if err != nil {
			return nil, fmt.Errorf("cannot make the layer of %s: %w: %w", part.title, err, errdefs.ErrUnknown)
		}
		layers = append(layers, mutate.Addendum{
			Layer:   layer,
			History: v1.History{Created: created, CreatedBy: "ocmt", Comment: part.title},
		})
	}
	image, err = mutate.Append(image, layers...)
	if err != nil {
		return nil, fmt.Errorf("cannot make the image: %w: %w", err, errdefs.ErrUnknown)
	}
	return image, nil
}

// writeArchive stores the image in the form of `docker save`. Its tag holds
// the digest, so that images of several builds do not take it from each other,
// and an engine's pruning of untagged images leaves it alone.
func writeArchive(o Options, n images.Name, image v1.Image) (images.Entry, error) {
	digest, err := image.ConfigName()
	if err != nil {
		return images.Entry{}, fmt.Errorf("cannot name the image: %w: %w", err, errdefs.ErrUnknown)
	}
	tag, err := name.NewTag(fmt.Sprintf("ocmt-%s:%s", n, digest.Hex[:12]))
	if err != nil {
		return images.Entry{}, fmt.Errorf("cannot name the image: %w: %w", err, errdefs.ErrUnknown)
	}
	path := archivePath(o, n)
	f, err := os.Create(path + ".new")
	if err != nil {
		return images.Entry{}, fmt.Errorf("cannot write the image: %w: %w", err, errdefs.ErrUnknown)
	}
	defer os.Remove(f.Name())
	err = tarball.Write(tag, image, f)
	if err := errors.Join(err, f.Close()); err != nil {
		return images.Entry{}, fmt.Errorf("cannot write the image: %w: %w", err, errdefs.ErrUnknown)
	}
	info, err := os.Stat(f.Name())
	if err != nil {
		return images.Entry{}, fmt.Errorf("cannot write the image: %w: %w", err, errdefs.ErrUnknown)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return images.Entry{}, fmt.Errorf("cannot write the image: %w: %w", err, errdefs.ErrUnknown)
	}
	return images.Entry{Digest: digest.String(), File: archiveName(n, o.Arch), Size: info.Size()}, nil
}
