package sandbox

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/containerd/errdefs"
)

// maxArchiveMeta bounds the manifest and the configuration in an image
// archive; real ones are a few kilobytes.
const maxArchiveMeta = 1 << 20

// CheckArchive reads a `docker save` archive and reports, as a
// FailedPrecondition error, when it does not hold exactly one image whose
// configuration has the digest. Engines call it before they load anything.
func CheckArchive(r io.Reader, digest string) error {
	digests := map[string]string{} // of the small files, by name
	var manifest []byte
	for tr := tar.NewReader(r); ; {
		header, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("cannot read the image archive: %w: %w", err, errdefs.ErrFailedPrecondition)
		}
		if header.Typeflag != tar.TypeReg || header.Size > maxArchiveMeta {
			continue
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			return fmt.Errorf("cannot read the image archive: %w: %w", err, errdefs.ErrFailedPrecondition)
		}
		sum := sha256.Sum256(data)
		digests[path.Clean(header.Name)] = "sha256:" + hex.EncodeToString(sum[:])
		if path.Clean(header.Name) == "manifest.json" {
			manifest = data
		}
	}
	return checkManifest(manifest, digests, digest)
}

func checkManifest(manifest []byte, digests map[string]string, want string) error {
	var images []struct{ Config string }
	if err := json.Unmarshal(manifest, &images); err != nil || len(images) != 1 {
		return fmt.Errorf("cannot accept the image archive: it must hold a manifest of one image: %w", errdefs.ErrFailedPrecondition)
	}
	got := digests[path.Clean(images[0].Config)]
	if got != want {
		return fmt.Errorf("cannot accept the image archive: it holds image %q, not %s: %w", got, want, errdefs.ErrFailedPrecondition)
	}
	return nil
}
