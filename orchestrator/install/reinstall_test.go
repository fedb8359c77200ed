package install

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/install/seal"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// altered installs a plugin and alters its sealed payload.
func altered(t *testing.T, b *bench, req Request) plugin.Installed {
	t.Helper()
	got, err := b.Install(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if err := seal.Remove(b.StoreDir, got.Payload); err != nil {
		t.Fatal(err)
	}
	place := filepath.Join(b.StoreDir, got.Payload.Digest[len("sha256:"):]+"."+got.Payload.Form)
	if got.Payload.Form == plugin.FormTree {
		if err := os.Mkdir(place, 0o755); err != nil {
			t.Fatal(err)
		}
		place = filepath.Join(place, "index.js")
	}
	if err := os.WriteFile(place, []byte("altered"), 0o444); err != nil {
		t.Fatal(err)
	}
	b.verifies(t, got.Payload, errdefs.IsDataLoss)
	return got
}

// verifies opens a payload and checks its error.
func (b *bench) verifies(t *testing.T, p plugin.Payload, is func(error) bool) {
	t.Helper()
	s, err := seal.Open(t.Context(), b.StoreDir, p)
	if err == nil {
		s.Close()
	}
	if !is(err) {
		t.Errorf("the payload verifies with %v", err)
	}
}

func noError(err error) bool { return err == nil }

// once is a reinstall from files, reviewed by nobody unless they changed.
func once(t *testing.T, files fileset) Request {
	req := upload(files)
	req.Tenant, req.Source, req.Spec = "", "", ""
	req.Review = func(context.Context, plugin.Installed) (Consent, error) {
		t.Error("the same files were reviewed")
		return agree(t.Context(), plugin.Installed{})
	}
	return req
}

func TestReinstallMendsThePayload(t *testing.T) {
	for _, form := range []string{plugin.FormEROFS, plugin.FormTree} {
		t.Run("form="+form, func(t *testing.T) {
			b := newBench(t)
			b.Form = form
			before := altered(t, b, upload(pkg("p", "1.0.0")))
			b.checker.at = func(string) error { t.Error("the same files were loaded"); return nil }
			got, err := b.Reinstall(t.Context(), before.Key, once(t, pkg("p", "1.0.0")))
			if diff := cmp.Diff(before, got); diff != "" || err != nil {
				t.Errorf("error %v (-before +after)\n%s", err, diff)
			}
			b.verifies(t, before.Payload, noError)
			if left, _ := filepath.Glob(filepath.Join(b.home, "st*", "*")); len(left) != 1 {
				t.Errorf("store and staging hold %v", left)
			}
		})
	}
}

func TestReinstallOfAMissingPayload(t *testing.T) {
	b := newBench(t)
	before := altered(t, b, upload(pkg("p", "1.0.0")))
	if err := seal.Remove(b.StoreDir, before.Payload); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Reinstall(t.Context(), before.Key, once(t, pkg("p", "1.0.0"))); err != nil {
		t.Error(err)
	}
	b.verifies(t, before.Payload, noError)
}

func TestReinstallOfAnEditedDirectory(t *testing.T) {
	b := newBench(t)
	req := upload(pkg("p", "1.0.0"))
	req.Link = true
	before := altered(t, b, req)
	reviewed := 0
	req = once(t, pkg("p", "1.0.1"))
	req.Review = func(context.Context, plugin.Installed) (Consent, error) {
		reviewed++
		return Consent{Digest: agreed}, nil
	}
	got, err := b.Reinstall(t.Context(), before.Key, req)
	if err != nil || got.Descriptor.Version != "1.0.1" || got.Payload == before.Payload || reviewed != 1 {
		t.Errorf("got %+v, %v, reviewed %d times", got, err, reviewed)
	}
	if !got.Linked || got.Spec != before.Spec || !got.FirstInstalledAt.Equal(before.InstalledAt) || !got.InstalledAt.After(before.InstalledAt) {
		t.Errorf("got %+v of %+v", got, before)
	}
	b.verifies(t, got.Payload, noError)
	if err := b.Prune(t.Context()); err != nil {
		t.Error(err)
	}
	b.verifies(t, before.Payload, errdefs.IsNotFound)
}

func TestReinstallFromNPM(t *testing.T) {
	npm := Request{Tenant: "default", Source: plugin.SourceNPM, Spec: "plug@latest", Confirmed: true, Review: agree}
	for name, tc := range map[string]struct {
		files     fileset
		integrity string
		code      string // of the refusal
		mended    bool
	}{
		"the same":               {files: pkg("plug", "9.9.9"), integrity: "sha512-x", mended: true},
		"another dependency":     {files: fileset{"package.json": `{"name":"plug","version":"9.9.9"}`, "index.js": "", "dep.js": "later"}, integrity: "sha512-x"},
		"another integrity":      {files: pkg("plug", "9.9.9"), integrity: "sha512-y", code: "package_changed"},
		"no integrity":           {files: pkg("plug", "9.9.9"), integrity: "", code: "package_changed"},
		"another package inside": {files: pkg("other", "9.9.9"), integrity: "sha512-x", code: "name_mismatch"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.uploads.npm["plug"] = pkg("plug", "9.9.9")
			before := altered(t, b, npm)
			store := b.snapshot(t)
			b.uploads.npm["plug"], b.uploads.integrity = tc.files, tc.integrity
			got, err := b.Reinstall(t.Context(), before.Key, Request{Review: agree})
			if want := []string{"plug@latest", "plug@9.9.9"}; cmp.Diff(want, b.uploads.asked) != "" {
				t.Errorf("asked npm for %v, want %v", b.uploads.asked, want)
			}
			if tc.code != "" {
				if f := fault.Of(err); f.Code != tc.code || f.Hint == "" {
					t.Errorf("got %v (%s), want %s with a hint", err, f.Code, tc.code)
				}
				if diff := cmp.Diff(store, b.snapshot(t)); diff != "" {
					t.Errorf("a refusal changed something:\n%s", diff)
				}
				return
			}
			if err != nil || (got.Payload == before.Payload) != tc.mended || got.Spec != "plug@latest" {
				t.Errorf("got %+v, %v", got, err)
			}
			b.verifies(t, got.Payload, noError)
		})
	}
}

func TestReinstallRefuses(t *testing.T) {
	b := newBench(t)
	archive := upload(pkg("archived", "1.0.0"))
	archive.Source, archive.Confirmed = plugin.SourceArchive, true
	archived := altered(t, b, archive)
	before := altered(t, b, upload(pkg("@me/p", "1.0.0")))
	store := b.snapshot(t)
	for name, tc := range map[string]struct {
		key plugin.Key
		req Request
		is  func(error) bool
	}{
		"an unknown plugin":             {plugin.Key{Tenant: "default", ID: "none"}, once(t, pkg("none", "1.0.0")), errdefs.IsNotFound},
		"another plugin":                {before.Key, once(t, pkg("@me/q", "1.0.0")), errdefs.IsFailedPrecondition},
		"the same id of another":        {before.Key, once(t, pkg("@you/p", "1.0.0")), errdefs.IsFailedPrecondition},
		"no files":                      {before.Key, Request{Review: agree}, errdefs.IsInvalidArgument},
		"an archive without confirming": {archived.Key, once(t, pkg("archived", "1.0.0")), errdefs.IsPermissionDenied},
	} {
		if _, err := b.Reinstall(t.Context(), tc.key, tc.req); !tc.is(err) {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(store, b.snapshot(t)); diff != "" {
			t.Errorf("%s changed something:\n%s", name, diff)
		}
	}
}

// TestReinstallFailsAtEveryStep makes every dependency fail in turn: the record
// stays as it was, and the payload is mended or as it was.
func TestReinstallFailsAtEveryStep(t *testing.T) {
	for fail := 1; ; fail++ {
		b, reached, place := newBench(t), 0, ""
		before := altered(t, b, upload(pkg("p", "1.0.0")))
		at := func(p string) error {
			if reached++; reached == fail {
				place = p
				return errInjected
			}
			return nil
		}
		b.uploads.at, b.checker.at, b.records.at = at, at, at
		req := once(t, pkg("p", "1.0.1"))
		req.Review = agree
		_, err := b.Reinstall(t.Context(), before.Key, req)
		b.uploads.at, b.checker.at, b.records.at = nil, nil, nil
		if place == "" {
			if err != nil || fail < 5 {
				t.Errorf("after %d places: %v", fail, err)
			}
			return
		}
		if place == "after put" || err == nil { // the record is there
			continue
		}
		if !errors.Is(err, errInjected) {
			t.Errorf("failing at %s: %v", place, err)
		}
		all, err := b.records.List(t.Context())
		if err != nil || len(all) != 1 || all[0].Payload != before.Payload {
			t.Errorf("failing at %s left %+v, %v", place, all, err)
		}
		b.verifies(t, before.Payload, errdefs.IsDataLoss)
	}
}

func TestReinstallBesideAnInstall(t *testing.T) {
	b := newBench(t)
	before := altered(t, b, upload(pkg("p", "1.0.0")))
	b.uploads.at = func(string) error {
		b.uploads.at = nil
		req := upload(pkg("p", "2.0.0"))
		req.Replace = true
		_, err := b.Install(t.Context(), req)
		if !errdefs.IsConflict(err) {
			t.Errorf("an install meanwhile: %v, want a conflict", err)
		}
		return nil
	}
	req := once(t, pkg("p", "1.0.0"))
	req.Upload = bytes.NewReader(pkg("p", "1.0.0").tar())
	if _, err := b.Reinstall(t.Context(), before.Key, req); err != nil {
		t.Error(err)
	}
}
