package install

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/install/fetch"
	"github.com/ocmt/ocmt/orchestrator/install/seal"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

var errInjected = errors.New("injected")

// hooks are called at the places where a test wants to interfere.
type hooks struct {
	at func(place string) error
}

func (h hooks) reach(place string) error {
	if h.at == nil {
		return nil
	}
	return h.at(place)
}

// uploads is the real fetcher; npm packages are uploads of the test's own.
type uploads struct {
	fetch.Fetcher
	hooks
	npm       map[string]fileset
	integrity string   // of all packages
	asked     []string // of npm
}

func (u *uploads) Upload(ctx context.Context, r io.Reader, s plugin.Source, at fetch.Place, report fetch.Report) (fetch.Fetched, error) {
	got, err := u.Fetcher.Upload(ctx, r, s, at, report)
	return got, errors.Join(err, u.reach("fetched"))
}

func (u *uploads) NPM(ctx context.Context, spec fetch.Spec, at fetch.Place, report fetch.Report) (fetch.Fetched, error) {
	got, err := u.Fetcher.Upload(ctx, bytes.NewReader(u.npm[spec.Name].tar()), plugin.SourcePath, at, report)
	u.asked = append(u.asked, spec.String())
	got.Name, got.Version, got.Integrity, got.Scripts = spec.Name, "9.9.9", u.integrity, []string{"dep"}
	return got, errors.Join(err, u.reach("fetched"))
}

// checker registers one tool, or what it is told.
type checker struct {
	hooks
	surface plugin.Surface
}

func (c *checker) Check(context.Context, plugin.Installed) (plugin.Surface, error) {
	return c.surface, c.reach("check")
}

// records are kept in a file, replaced atomically.
type records struct {
	hooks
	file string
	mu   sync.Mutex
}

func (r *records) read() (map[string]plugin.Installed, error) {
	all := map[string]plugin.Installed{}
	data, err := os.ReadFile(r.file)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	return all, errors.Join(err, json.Unmarshal(data, &all))
}

func (r *records) List(context.Context) ([]plugin.Installed, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.reach("list"); err != nil {
		return nil, err
	}
	all, err := r.read()
	var list []plugin.Installed
	for _, i := range all {
		list = append(list, i)
	}
	return list, err
}

func (r *records) change(place string, change func(map[string]plugin.Installed)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.reach("before " + place); err != nil {
		return err
	}
	all, err := r.read()
	if err != nil {
		return err
	}
	change(all)
	data, err := json.Marshal(all)
	if err == nil {
		err = os.WriteFile(r.file+".new", data, 0o600)
	}
	if err == nil {
		err = os.Rename(r.file+".new", r.file)
	}
	return errors.Join(err, r.reach("after "+place))
}

func (r *records) Put(_ context.Context, i plugin.Installed, consent Consent) error {
	if consent.Digest != agreed {
		return fmt.Errorf("it was recorded with the consent %q", consent.Digest)
	}
	return r.change("put", func(all map[string]plugin.Installed) { all[i.Key.String()] = i })
}

func (r *records) Delete(_ context.Context, k plugin.Key) error {
	return r.change("delete", func(all map[string]plugin.Installed) { delete(all, k.String()) })
}

// agreed is the digest of the review that agree agrees to.
const agreed = "sha256:review"

func agree(context.Context, plugin.Installed) (Consent, error) {
	return Consent{Digest: agreed, Actor: "uid:0"}, nil
}

type fileset map[string]string

func (f fileset) tar() []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for name, data := range f {
		w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))})
		io.WriteString(w, data)
	}
	w.Close()
	return buf.Bytes()
}

func pkg(name, version string) fileset {
	return fileset{"package.json": fmt.Sprintf(`{"name":%q,"version":%q}`, name, version), "index.js": "export const version = '" + version + "'"}
}

// withID gives a package a manifest with an id.
func withID(f fileset, id string) fileset {
	f["openclaw.plugin.json"] = fmt.Sprintf(`{"id":%q}`, id)
	return f
}

type bench struct {
	*Installer
	home    string
	uploads *uploads
	checker *checker
	records *records
	removed []plugin.Key // states
}

// installer works in home; at is called at every place where it can fail.
func installer(home, form string, at func(place string) error) *bench {
	h := hooks{at}
	b := &bench{home: home, uploads: &uploads{hooks: h, npm: map[string]fileset{}, integrity: "sha512-x"}, records: &records{hooks: h, file: filepath.Join(home, "records.json")}}
	b.checker = &checker{hooks: h, surface: plugin.Surface{Registrations: []plugin.Registration{{Kind: "tool", Name: "t"}}}}
	b.Installer = New(Config{
		StoreDir: filepath.Join(home, "store"), StagingDir: filepath.Join(home, "staging"), Form: form,
		Fetcher: b.uploads, Checker: b.checker, Records: b.records, Log: slog.New(slog.DiscardHandler),
		RemoveState: func(_ context.Context, k plugin.Key) error {
			b.removed = append(b.removed, k)
			return h.reach("state")
		},
	})
	return b
}

func newBench(t *testing.T) *bench {
	home := t.TempDir()
	b := installer(home, plugin.FormEROFS, nil)
	t.Cleanup(func() { empty(t, b.StoreDir) })
	return b
}

// empty removes a store's objects, some of which may be immutable.
func empty(t *testing.T, store string) {
	objects, _ := seal.List(store)
	for _, o := range objects {
		if err := seal.Remove(store, o); err != nil {
			t.Error(err)
		}
	}
}

func upload(files fileset) Request {
	return Request{Tenant: "default", Source: plugin.SourcePath, Spec: "./dir", Upload: bytes.NewReader(files.tar()), Review: agree}
}

// snapshot lists everything below home with its content.
func (b *bench) snapshot(t *testing.T) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(b.home, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(b.home, p)
		if d.IsDir() {
			got[name] = "directory"
			return nil
		}
		data, err := os.ReadFile(p)
		got[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	delete(got, "records.json.new")
	return got
}

func TestInstallAndUninstall(t *testing.T) {
	for _, form := range []string{plugin.FormEROFS, plugin.FormTree} {
		t.Run("form="+form, func(t *testing.T) {
			ctx, b := context.Background(), newBench(t)
			b.Form = form
			var steps []string
			req := upload(pkg("@me/plug", "1.0.0"))
			req.Progress = func(p Progress) { steps = append(steps, p.Step) }
			got, err := b.Install(ctx, req)
			if err != nil {
				t.Fatal(err)
			}
			if got.Key != (plugin.Key{Tenant: "default", ID: "plug"}) || got.Descriptor.Version != "1.0.0" || got.Payload.Form != form || got.InstalledAt.IsZero() {
				t.Errorf("installed %+v", got)
			}
			if diff := cmp.Diff([]string{StepFetch, StepDescribe, StepSeal, StepCheck, StepReview, StepRecord}, slices.Compact(steps)); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
			sealed, err := seal.Open(ctx, b.StoreDir, got.Payload)
			if err != nil {
				t.Fatal(err)
			}
			sealed.Close()
			if left, _ := os.ReadDir(b.StagingDir); len(left) != 0 {
				t.Errorf("staging holds %v", left)
			}
			if err := b.Uninstall(ctx, got.Key, false); err != nil || len(b.removed) != 1 {
				t.Errorf("Uninstall = %v, removed the state of %v", err, b.removed)
			}
			if objects, _ := seal.List(b.StoreDir); len(objects) != 0 {
				t.Errorf("store holds %v", objects)
			}
			if err := b.Uninstall(ctx, got.Key, false); !errdefs.IsNotFound(err) || fault.Of(err).Hint == "" {
				t.Errorf("again: %v, want not found", err)
			}
		})
	}
}

func TestUninstallKeepsWhatIsShared(t *testing.T) {
	ctx, b := context.Background(), newBench(t)
	one, err := b.Install(ctx, upload(pkg("p", "1.0.0")))
	if err != nil {
		t.Fatal(err)
	}
	other := upload(pkg("p", "1.0.0"))
	other.Tenant = "team"
	two, err := b.Install(ctx, other)
	if err != nil || one.Payload != two.Payload {
		t.Fatalf("second tenant: %+v, %v, want the same payload", two.Payload, err)
	}
	if err := b.Uninstall(ctx, one.Key, true); err != nil || len(b.removed) != 0 {
		t.Errorf("Uninstall = %v, removed the state of %v", err, b.removed)
	}
	s, err := seal.Open(ctx, b.StoreDir, two.Payload)
	if err != nil {
		t.Fatalf("the other tenant's payload: %v", err)
	}
	s.Close()
}

func TestInstallFromNPM(t *testing.T) {
	ctx, b := context.Background(), newBench(t)
	b.uploads.npm["plug"] = pkg("plug", "9.9.9")
	b.uploads.npm["liar"] = pkg("other", "9.9.9")
	req := Request{Tenant: "default", Source: plugin.SourceNPM, Spec: "npm:plug@latest", Confirmed: true, Review: agree}
	got, err := b.Install(ctx, req)
	if err != nil || got.Integrity != "sha512-x" || got.Spec != "npm:plug@latest" || got.Descriptor.Version != "9.9.9" {
		t.Fatalf("installed %+v, %v", got, err)
	}
	if len(got.Surface.Diagnostics) != 1 || !strings.Contains(got.Surface.Diagnostics[0].Message, "dep") {
		t.Errorf("diagnostics = %v, want one on install scripts", got.Surface.Diagnostics)
	}
	b.uploads.npm = nil // the second one must not even fetch
	if _, err := b.Install(ctx, req); !errdefs.IsAlreadyExists(err) || fault.Of(err).Hint == "" {
		t.Errorf("again: %v, want already exists", err)
	}
}

func TestInstallRefuses(t *testing.T) {
	npm := func(spec string) Request {
		return Request{Tenant: "default", Source: plugin.SourceNPM, Spec: spec, Confirmed: true, Review: agree}
	}
	with := func(r Request, change func(*Request)) Request {
		change(&r)
		return r
	}
	good := func() Request { return upload(pkg("p", "1.0.0")) }
	tests := []struct {
		name  string
		req   Request
		setup func(*bench)
		is    func(error) bool
	}{
		{"npm without consent", with(npm("p"), func(r *Request) { r.Confirmed = false }), nil, errdefs.IsPermissionDenied},
		{"archive without consent", with(good(), func(r *Request) { r.Source = plugin.SourceArchive }), nil, errdefs.IsPermissionDenied},
		{"unknown source without consent", with(good(), func(r *Request) { r.Source = "git" }), nil, errdefs.IsPermissionDenied},
		{"unknown source", with(good(), func(r *Request) { r.Source, r.Confirmed = "git", true }), nil, errdefs.IsInvalidArgument},
		{"no files", with(good(), func(r *Request) { r.Upload = nil }), nil, errdefs.IsInvalidArgument},
		{"bad tenant", with(good(), func(r *Request) { r.Tenant = "../x" }), nil, errdefs.IsInvalidArgument},
		{"no tenant", with(good(), func(r *Request) { r.Tenant = "" }), nil, errdefs.IsInvalidArgument},
		{"bad spec", npm("https://example.com/x.tgz"), nil, errdefs.IsInvalidArgument},
		{"range", npm("p@^1"), nil, errdefs.IsInvalidArgument},
		{"name differs", npm("liar"), func(b *bench) { b.uploads.npm["liar"] = pkg("other", "1.0.0") }, errdefs.IsAborted},
		{"no package", upload(fileset{"x": "y"}), nil, errdefs.IsAborted},
		{"no entry", upload(fileset{"package.json": `{"name":"x"}`}), nil, errdefs.IsAborted},
		{"bad id", upload(fileset{"package.json": `{"name":"x"}`, "index.js": "", "openclaw.plugin.json": "{id:'a/b'}"}), nil, errdefs.IsAborted},
		{"package.json too large", upload(fileset{"package.json": strings.Repeat(" ", plugin.MaxDescriptionFile+1), "index.js": ""}), nil, errdefs.IsResourceExhausted},
		{"registers a tool twice", good(), func(b *bench) {
			b.checker.surface.Registrations = append(b.checker.surface.Registrations, b.checker.surface.Registrations...)
		}, errdefs.IsAborted},
		{"load check fails", good(), func(b *bench) { b.checker.at = func(string) error { return fault.ErrPlugin } }, errdefs.IsAborted},
		{"broken upload", with(good(), func(r *Request) { r.Upload = io.MultiReader(strings.NewReader("no tar")) }), nil, errdefs.IsAborted},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			if tt.setup != nil {
				tt.setup(b)
			}
			if got, err := b.Install(context.Background(), tt.req); err == nil || !tt.is(err) {
				t.Errorf("installed %+v, %v, want another error", got.Key, err)
			}
			if all, err := b.records.List(context.Background()); len(all) != 0 || err != nil {
				t.Errorf("recorded %v, %v", all, err)
			}
			for name := range b.snapshot(t) {
				if name != "." && name != "store" && name != "staging" {
					t.Errorf("left %s behind", name)
				}
			}
		})
	}
}

func TestConflicts(t *testing.T) {
	ctx, b := context.Background(), newBench(t)
	first, err := b.Install(ctx, upload(pkg("@one/plug", "1.0.0")))
	if err != nil {
		t.Fatal(err)
	}
	before := b.snapshot(t)
	tests := []struct {
		name    string
		files   fileset
		replace bool
		is      func(error) bool
	}{
		{"same plugin", pkg("@one/plug", "1.0.0"), false, errdefs.IsAlreadyExists},
		{"same plugin, other version", pkg("@one/plug", "2.0.0"), false, errdefs.IsAlreadyExists},
		{"same id of another package", pkg("@two/plug", "1.0.0"), false, errdefs.IsConflict},
		{"same id of another package, replacing", pkg("@two/plug", "1.0.0"), true, errdefs.IsConflict},
		{"same package with another id", withID(pkg("@one/plug", "1.0.0"), "other"), false, errdefs.IsConflict},
		{"package of that id", withID(pkg("plug", "1.0.0"), "other"), false, errdefs.IsConflict},
	}
	for _, tt := range tests {
		req := upload(tt.files)
		req.Replace = tt.replace
		if _, err := b.Install(ctx, req); !tt.is(err) || fault.Of(err).Hint == "" {
			t.Errorf("%s: %v, want another error with a hint", tt.name, err)
		}
		if diff := cmp.Diff(before, b.snapshot(t)); diff != "" {
			t.Errorf("%s changed something:\n%s", tt.name, diff)
		}
	}
	req := upload(pkg("@one/plug", "2.0.0"))
	req.Replace = true
	second, err := b.Install(ctx, req)
	if err != nil || second.Descriptor.Version != "2.0.0" {
		t.Fatalf("replacing: %+v, %v", second, err)
	}
	s, err := seal.Open(ctx, b.StoreDir, first.Payload)
	if err != nil {
		t.Fatalf("the old payload must stay until Prune: %v", err)
	}
	s.Close()
	if err := b.Prune(ctx); err != nil {
		t.Fatal(err)
	}
	if objects, _ := seal.List(b.StoreDir); len(objects) != 1 || objects[0].Digest != second.Payload.Digest {
		t.Errorf("after Prune the store holds %v", objects)
	}
}

func TestTwoInstallsAtOnce(t *testing.T) {
	ctx, b := context.Background(), newBench(t)
	inCheck, goOn := make(chan struct{}), make(chan struct{})
	b.checker.at = func(string) error { close(inCheck); <-goOn; return nil }
	done := make(chan error)
	go func() {
		_, err := b.Install(ctx, upload(pkg("p", "1.0.0")))
		done <- err
	}()
	<-inCheck
	if _, err := b.Install(ctx, upload(pkg("p", "2.0.0"))); !errdefs.IsConflict(err) || !fault.Of(err).Retryable {
		t.Errorf("second install = %v, want a conflict that may be retried", err)
	}
	if err := b.Uninstall(ctx, plugin.Key{Tenant: "default", ID: "p"}, true); !errdefs.IsConflict(err) {
		t.Errorf("uninstall meanwhile = %v, want a conflict", err)
	}
	if err := b.Prune(ctx); err != nil { // must not take the sealed payload away
		t.Error(err)
	}
	close(goOn)
	if err := <-done; err != nil {
		t.Fatalf("first install = %v", err)
	}
	all, _ := b.records.List(ctx)
	s, err := seal.Open(ctx, b.StoreDir, all[0].Payload)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

// TestFailureAtEveryStep makes every dependency fail in turn: nothing changes.
func TestFailureAtEveryStep(t *testing.T) {
	for _, installed := range []bool{false, true} {
		for fail := 1; ; fail++ {
			ctx, b, reached := context.Background(), newBench(t), 0
			if installed {
				if _, err := b.Install(ctx, upload(pkg("p", "1.0.0"))); err != nil {
					t.Fatal(err)
				}
			}
			if err := b.Recover(ctx); err != nil {
				t.Fatal(err)
			}
			before := b.snapshot(t)
			place := ""
			at := func(p string) error {
				if reached++; reached == fail {
					place = p
					return errInjected
				}
				return nil
			}
			b.uploads.at, b.checker.at, b.records.at = at, at, at
			req := upload(pkg("p", "2.0.0"))
			req.Replace = true
			_, err := b.Install(ctx, req)
			if place == "" {
				if err != nil || fail < 5 {
					t.Errorf("after %d places: %v", fail, err)
				}
				break
			}
			b.uploads.at, b.checker.at, b.records.at = nil, nil, nil
			if err := b.Recover(ctx); err != nil {
				t.Fatal(err)
			}
			after := b.snapshot(t)
			for _, dir := range []string{"staging", "store"} { // the empty directories may be new
				delete(before, dir)
				delete(after, dir)
			}
			if place == "after put" || err == nil { // it counts: the record is there
				if len(after) != 3 {
					t.Errorf("failing at %s left %v", place, after)
				}
				continue
			}
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("failing at %s changed something:\n%s", place, diff)
			}
		}
	}
}

func TestRecoverKeepsEverythingWhenRecordsCannotBeRead(t *testing.T) {
	ctx, b := context.Background(), newBench(t)
	if _, err := b.Install(ctx, upload(pkg("p", "1.0.0"))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.records.file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.Recover(ctx); err == nil {
		t.Error("Recover passed without records")
	}
	if objects, _ := seal.List(b.StoreDir); len(objects) != 1 {
		t.Errorf("the store holds %v, want the payload", objects)
	}
}

func TestUninstallFailsBeforeTheRecord(t *testing.T) {
	ctx, b := context.Background(), newBench(t)
	got, err := b.Install(ctx, upload(pkg("p", "1.0.0")))
	if err != nil {
		t.Fatal(err)
	}
	b.RemoveState = func(context.Context, plugin.Key) error { return errInjected }
	if err := b.Uninstall(ctx, got.Key, false); !errors.Is(err, errInjected) {
		t.Errorf("error = %v, want the injected one", err)
	}
	b.RemoveState = func(context.Context, plugin.Key) error { return nil }
	if err := b.Uninstall(ctx, got.Key, false); err != nil {
		t.Errorf("repeated: %v", err)
	}
}

func TestFailedLoadTellsOfScripts(t *testing.T) {
	failed := fault.New(fault.ErrPlugin, "load_load", "no bindings").WithHint("other").WithDetails("x")
	told := fault.Of(withScripts(failed, []string{"native"}))
	if told.Code != "load_load" || told.Message != "no bindings" || told.Details != "x" || !strings.Contains(told.Hint, "native") {
		t.Errorf("got %+v", told)
	}
	async := fault.New(fault.ErrPlugin, "load_async", "register must be synchronous").WithHint("make it so")
	if got := fault.Of(withScripts(async, []string{"native"})).Hint; !strings.HasPrefix(got, "make it so; besides, ") || !strings.Contains(got, "native") {
		t.Errorf("hint = %q, want the error's own and one on install scripts", got)
	}
	for _, err := range []error{withScripts(failed, nil), withScripts(errdefs.ErrUnavailable, []string{"native"})} {
		if strings.Contains(fault.Of(err).Hint, "native") {
			t.Errorf("%v speaks of scripts", err)
		}
	}
}
