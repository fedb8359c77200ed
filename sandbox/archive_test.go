package sandbox

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

const imageConfig = `{"os":"linux"}`

func archive(t testing.TB, files ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for i := 0; i < len(files); i += 2 {
		err := w.WriteHeader(&tar.Header{Name: files[i], Size: int64(len(files[i+1])), Mode: 0o644})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, files[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func configDigest() string {
	sum := sha256.Sum256([]byte(imageConfig))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func TestCheckArchive(t *testing.T) {
	const manifest = `[{"Config":"c.json","Layers":["l.tar"]}]`
	big := strings.Repeat(" ", maxArchiveMeta+1)
	for name, c := range map[string]struct {
		archive []byte
		says    string // empty: accepted
	}{
		"image":                 {archive(t, "c.json", imageConfig, "l.tar", "layer", "manifest.json", manifest), ""},
		"manifest first":        {archive(t, "./manifest.json", manifest, "./c.json", imageConfig), ""},
		"large layers":          {archive(t, "c.json", imageConfig, "l.tar", big, "manifest.json", manifest), ""},
		"another configuration": {archive(t, "c.json", imageConfig+" ", "manifest.json", manifest), "not " + configDigest()},
		"no configuration":      {archive(t, "manifest.json", manifest), `holds image ""`},
		"large configuration":   {archive(t, "c.json", imageConfig+big, "manifest.json", manifest), `holds image ""`},
		"no manifest":           {archive(t, "c.json", imageConfig), "a manifest of one image"},
		"two images":            {archive(t, "c.json", imageConfig, "manifest.json", `[{"Config":"c.json"},{"Config":"c.json"}]`), "a manifest of one image"},
		"no images":             {archive(t, "c.json", imageConfig, "manifest.json", `[]`), "a manifest of one image"},
		"manifest that is none": {archive(t, "c.json", imageConfig, "manifest.json", `{`), "a manifest of one image"},
		"empty":                 {nil, "a manifest of one image"},
		"no archive":            {[]byte(strings.Repeat("nonsense", 200)), "cannot read the image archive"},
		"cut off":               {archive(t, "c.json", imageConfig, "manifest.json", manifest)[:520], "cannot read the image archive"},
	} {
		t.Run(name, func(t *testing.T) {
			err := CheckArchive(bytes.NewReader(c.archive), configDigest())
			if c.says == "" && err != nil {
				t.Error(err)
			}
			if c.says != "" && (!errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("error %v, want one that says %q", err, c.says)
			}
		})
	}
}

func FuzzCheckArchive(f *testing.F) {
	f.Add(archive(f, "c.json", imageConfig, "manifest.json", `[{"Config":"c.json"}]`))
	f.Add([]byte("nonsense"))
	f.Fuzz(func(t *testing.T, data []byte) {
		err := CheckArchive(bytes.NewReader(data), configDigest())
		if err != nil && !errdefs.IsFailedPrecondition(err) {
			t.Errorf("error %v has no class", err)
		}
		if err == nil && !bytes.Contains(data, []byte(imageConfig)) {
			t.Error("an archive without the configuration was accepted")
		}
	})
}

func TestCheckArchiveReadError(t *testing.T) {
	if err := CheckArchive(io.MultiReader(bytes.NewReader(archive(t, "a", "b")[:512]), broken{}), configDigest()); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("error %v", err)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("broken") }
