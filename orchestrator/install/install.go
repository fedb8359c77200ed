// Package install puts plugins on this host and takes them off again.
//
// [Installer.Install] reads as the flow. It promises that a plugin is either
// installed as a whole or not at all, whenever the process dies: everything
// before the record is in a staging directory or is a store object that
// nothing refers to, and [Installer.Recover] removes both. The record is the
// one step that counts.
//
// Consent is enforced here too and not only where a person is asked.
package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/gateway"
	"github.com/ocmt/ocmt/orchestrator/install/fetch"
	"github.com/ocmt/ocmt/orchestrator/install/seal"
	"github.com/ocmt/ocmt/orchestrator/install/verify"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
)

// Fetcher gets the files; [fetch.Fetcher] says what each method promises.
type Fetcher interface {
	NPM(ctx context.Context, spec fetch.Spec, at fetch.Place, report fetch.Report) (fetch.Fetched, error)
	Upload(ctx context.Context, archive io.Reader, source plugin.Source, at fetch.Place, report fetch.Report) (fetch.Fetched, error)
	Remove(ctx context.Context, dir string) error
}

// Checker loads a sealed plugin once, in a sandbox without network and state,
// and returns what it registers.
type Checker interface {
	Check(ctx context.Context, candidate plugin.Installed) (plugin.Surface, error)
}

// Records holds what is installed, of all tenants. Put and Delete are atomic
// and durable when they return.
type Records interface {
	List(ctx context.Context) ([]plugin.Installed, error)
	// Put inserts or replaces by key, together with what was consented to.
	Put(ctx context.Context, installed plugin.Installed, consent Consent) error
	Delete(ctx context.Context, key plugin.Key) error
}

// Config holds what an Installer works with. All fields must be set.
type Config struct {
	StoreDir   string // sealed payloads
	StagingDir string // nothing else may be in it
	Form       string // plugin.FormEROFS, or plugin.FormTree where nothing can mount
	Fetcher    Fetcher
	Checker    Checker
	Records    Records
	// RemoveState removes a plugin's state; it does nothing where there is none.
	RemoveState func(ctx context.Context, key plugin.Key) error
	Log         *slog.Logger
}

// Request asks for an install.
type Request struct {
	Tenant string
	Source plugin.Source
	Spec   string // of npm; else what the person named, for the record only
	// Upload is a tar archive of the directory (plugin.SourcePath), or the
	// archive itself (plugin.SourceArchive); nil for npm.
	Upload    io.Reader
	Confirmed bool           // a person has seen [Warning] and agreed
	Pin       bool           // record the exact version that was installed as the spec
	Link      bool           // of a path: note that its files are sent again at every restart
	Replace   bool           // the same plugin may be there already: update or reinstall
	Progress  func(Progress) // may be nil; called from several goroutines, never at once
	// Review decides on a candidate that was fetched, sealed and loaded once:
	// what it may do once it is installed. An error undoes the install. It
	// may wait for a person.
	Review func(ctx context.Context, candidate plugin.Installed) (Consent, error)
}

// Consent is what was agreed to about a candidate.
type Consent struct {
	Grants []policy.Grant // in addition to those that are in force
	Digest string         // of what was shown
	Actor  string         // who agreed
}

// The steps of an install, in order.
const (
	StepFetch    = "fetch"
	StepDescribe = "describe"
	StepSeal     = "seal"
	StepCheck    = "check"
	StepReview   = "review"
	StepRecord   = "record"
)

// Progress is what goes on in an install.
type Progress struct {
	Step    string `json:"step"`
	Message string `json:"message"`
	Done    int64  `json:"done,omitempty"`
	Total   int64  `json:"total,omitempty"` // 0 when unknown
}

// Installer installs and uninstalls plugins; its methods may be called from
// several goroutines.
type Installer struct {
	Config

	claims sync.Map // of plugin.Key: installs and uninstalls under way

	mu   sync.Mutex // held while the store's objects change
	pins map[object]int
}

// New returns an Installer. Call [Installer.Recover] before anything else.
func New(c Config) *Installer { return &Installer{Config: c, pins: map[object]int{}} }

// Install installs a plugin, or with req.Replace another version of it. What
// was replaced stays in the store until [Installer.Prune], since it may still
// run.
func (in *Installer) Install(ctx context.Context, req Request) (plugin.Installed, error) {
	report := reporter(req.Progress)
	spec, err := in.validate(ctx, req)
	if err != nil {
		return plugin.Installed{}, err
	}
	dir, unstage, err := in.stage(ctx)
	if err != nil {
		return plugin.Installed{}, err
	}
	defer unstage()

	fetched, err := in.fetch(ctx, req, spec, dir, report(StepFetch))
	if err != nil {
		return plugin.Installed{}, err
	}
	report(StepDescribe)("reading what the package says", 0, 0)
	described, err := describe(fetched)
	if err != nil {
		return plugin.Installed{}, err
	}
	key := plugin.Key{Tenant: req.Tenant, ID: described.ID}
	release, err := in.claim(key)
	if err != nil {
		return plugin.Installed{}, err
	}
	defer release()
	if err := in.checkConflicts(ctx, key, described.Name, req.Replace); err != nil {
		return plugin.Installed{}, err
	}
	candidate := plugin.Installed{Key: key, Descriptor: described, Source: req.Source, Spec: req.Spec, Integrity: fetched.Integrity}
	candidate.Linked = req.Link && req.Source == plugin.SourcePath
	if req.Pin && req.Source == plugin.SourceNPM {
		candidate.Spec = described.Name + "@" + described.Version
	}
	if before, err := in.find(ctx, key); err == nil {
		candidate.FirstInstalledAt = before.FirstInstalled()
	}
	payload, unpin, err := in.seal(ctx, fetched.Tree, report(StepSeal))
	if err != nil {
		return plugin.Installed{}, err
	}
	defer unpin()
	candidate.Payload = payload
	return in.admit(ctx, req, candidate, fetched.Scripts, report)
}

// admit loads a sealed candidate once, has it reviewed, and records it.
func (in *Installer) admit(ctx context.Context, req Request, candidate plugin.Installed, scripts []string, report func(step string) fetch.Report) (plugin.Installed, error) {
	report(StepCheck)("loading the plugin in a sandbox", 0, 0)
	surface, err := in.check(ctx, candidate, scripts)
	if err != nil {
		return plugin.Installed{}, err
	}
	candidate.Surface, candidate.InstalledAt = surface, time.Now().UTC()
	return in.record(ctx, req, candidate, report)
}

// record puts what was agreed to on record, the one step that counts.
func (in *Installer) record(ctx context.Context, req Request, installed plugin.Installed, report func(step string) fetch.Report) (plugin.Installed, error) {
	report(StepReview)("reviewing what "+installed.Key.ID+" may do", 0, 0)
	consent, err := req.Review(ctx, installed)
	if err != nil {
		return plugin.Installed{}, err
	}
	report(StepRecord)("recording "+installed.Key.ID, 0, 0)
	if err := in.Records.Put(ctx, installed, consent); err != nil {
		return plugin.Installed{}, fmt.Errorf("cannot record the plugin: %w", err)
	}
	return installed, nil
}

// validate refuses what can be refused before anything is fetched.
func (in *Installer) validate(ctx context.Context, req Request) (fetch.Spec, error) {
	if err := plugin.CheckTenant(req.Tenant); err != nil {
		return fetch.Spec{}, err
	}
	if err := checkConsent(req); err != nil {
		return fetch.Spec{}, err
	}
	switch req.Source {
	case plugin.SourceNPM:
		spec, err := fetch.ParseSpec(req.Spec)
		if err != nil || req.Replace {
			return spec, err
		}
		return spec, in.checkName(ctx, req.Tenant, spec.Name)
	case plugin.SourcePath, plugin.SourceArchive:
		if req.Upload == nil {
			return fetch.Spec{}, fmt.Errorf("an install from %s needs the files: %w", req.Source, errdefs.ErrInvalidArgument)
		}
		return fetch.Spec{}, nil
	}
	return fetch.Spec{}, fmt.Errorf("cannot install from %.20q: %w", req.Source, errdefs.ErrInvalidArgument)
}

func (in *Installer) fetch(ctx context.Context, req Request, spec fetch.Spec, dir string, report fetch.Report) (fetch.Fetched, error) {
	at := fetch.Place{Tenant: req.Tenant, Dir: dir}
	if req.Source == plugin.SourceNPM {
		return in.Fetcher.NPM(ctx, spec, at, report)
	}
	report("unpacking the upload", 0, 0)
	return in.Fetcher.Upload(ctx, req.Upload, req.Source, at, report)
}

// describe reads the fetched package's description.
func describe(f fetch.Fetched) (plugin.Descriptor, error) {
	tree, err := os.OpenRoot(f.Tree)
	if err != nil {
		return plugin.Descriptor{}, fmt.Errorf("cannot read the package: %w", err)
	}
	defer tree.Close()
	var files plugin.Files
	for name, into := range map[string]*[]byte{
		plugin.PackageFile: &files.Package, plugin.ManifestFile: &files.Manifest, plugin.PermissionsFile: &files.Permissions,
	} {
		if *into, err = verify.ReadFile(tree, path.Join(f.Root, name), plugin.MaxDescriptionFile); err != nil {
			return plugin.Descriptor{}, fmt.Errorf("cannot read %s: %w", name, err)
		}
	}
	d, err := plugin.Describe(files, f.Root, func(name string) bool {
		info, err := tree.Stat(name)
		return err == nil && info.Mode().IsRegular()
	})
	if err != nil {
		return plugin.Descriptor{}, err
	}
	if f.Name != "" && f.Name != d.Name {
		return plugin.Descriptor{}, fault.New(fault.ErrPlugin, "name_mismatch", "the package %s says in its package.json that it is %s", f.Name, d.Name).
			WithHint("do not install it before you know why")
	}
	if f.Version != "" {
		d.Version = f.Version
	}
	return d, nil
}

// seal seals a tree and keeps the object from being pruned until unpin, which
// removes it unless a record refers to it by then.
func (in *Installer) seal(ctx context.Context, tree string, report fetch.Report) (p plugin.Payload, unpin func(), err error) {
	report("sealing the files", 0, 0)
	root, err := os.OpenRoot(tree)
	if err != nil {
		return p, nil, fmt.Errorf("cannot read the package: %w", err)
	}
	defer root.Close()
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.Form == plugin.FormTree {
		p, err = seal.SealTree(ctx, root.FS(), in.StoreDir)
	} else {
		p, err = seal.Seal(ctx, root.FS(), in.StoreDir)
	}
	if err != nil {
		return p, nil, fmt.Errorf("cannot seal the plugin: %w", err)
	}
	in.pins[objectOf(p)]++
	return p, func() { in.unpin(ctx, p) }, nil
}

// check loads the plugin, validates what it registered, and notes what callers
// and the operator should know.
func (in *Installer) check(ctx context.Context, candidate plugin.Installed, scripts []string) (plugin.Surface, error) {
	d := candidate.Descriptor
	surface, err := in.Checker.Check(ctx, candidate)
	if err != nil {
		return plugin.Surface{}, withScripts(err, scripts)
	}
	if err := surface.Validate(d); err != nil {
		return plugin.Surface{}, err
	}
	// Any package that exports a function could pass for a plugin. With a
	// manifest it is one that waits for its configuration.
	if len(surface.Registrations) == 0 && d.Manifest == nil {
		return plugin.Surface{}, fault.New(fault.ErrPlugin, "registers_nothing", "the package %s registers nothing and has no %s: it is no plugin", d.Name, plugin.ManifestFile).
			WithHint("a plugin exports `tools`, `hooks` or `services`, or a default function or object with register(api)")
	}
	surface.Diagnostics = append(surface.Diagnostics, gateway.Unchecked(surface)...)
	surface.Diagnostics = append(surface.Diagnostics, policy.Unused(surface)...)
	if len(scripts) > 0 {
		surface.Diagnostics = append(surface.Diagnostics, plugin.Diagnostic{
			Level: "warn", Message: "install scripts were not run: " + strings.Join(scripts, ", "),
		})
	}
	return surface, nil
}

// withScripts tells with a failed load that install scripts did not run: often
// that is why.
func withScripts(err error, scripts []string) error {
	f := fault.Of(err)
	if len(scripts) == 0 || !errors.Is(err, fault.ErrPlugin) {
		return err
	}
	told := fault.New(fault.ErrPlugin, f.Code, "%w", err).WithDetails(f.Details)
	hint := "install scripts do not run here; those of " + strings.Join(scripts, ", ") + " did not, and the plugin may need what they make"
	if f.Hint != "" {
		hint = f.Hint + "; besides, " + hint
	}
	return told.WithHint("%s", hint)
}

// stage makes a staging directory.
func (in *Installer) stage(ctx context.Context) (dir string, unstage func(), err error) {
	if err := os.MkdirAll(in.StagingDir, 0o700); err != nil {
		return "", nil, fmt.Errorf("cannot make the staging directory: %w", err)
	}
	if dir, err = os.MkdirTemp(in.StagingDir, ""); err != nil { // 0700
		return "", nil, fmt.Errorf("cannot make a staging directory: %w", err)
	}
	return dir, func() {
		ctx, cancel := cleanup(ctx)
		defer cancel()
		if err := in.Fetcher.Remove(ctx, dir); err != nil {
			in.Log.Warn("cannot remove a staging directory, the next start will", "dir", dir, "error", err)
		}
	}, nil
}

// claim keeps other installs and uninstalls of the same plugin out.
func (in *Installer) claim(key plugin.Key) (release func(), err error) {
	if _, taken := in.claims.LoadOrStore(key, struct{}{}); taken {
		return nil, fault.New(errdefs.ErrConflict, "install_under_way", "the plugin %s is being installed or uninstalled", key.ID).
			WithHint("wait until that is done, then try again").WithRetry()
	}
	return func() { in.claims.Delete(key) }, nil
}

// checkConflicts refuses an id that another package has, and without replace
// one that is installed.
func (in *Installer) checkConflicts(ctx context.Context, key plugin.Key, name string, replace bool) error {
	if err := in.checkTaken(ctx, key, name); err != nil {
		return err
	}
	existing, err := in.find(ctx, key)
	switch {
	case errdefs.IsNotFound(err):
		return nil
	case err != nil:
		return err
	case existing.Descriptor.Name != name:
		return fault.New(errdefs.ErrConflict, "id_taken", "the plugin id %s belongs to the installed package %s, and %s has it too", key.ID, existing.Descriptor.Name, name).
			WithHint("uninstall the other one first: ocmt plugins uninstall %s", key.ID)
	case !replace:
		return alreadyInstalled(existing)
	}
	return nil
}

// checkTaken refuses names by which people call another plugin: an id and a
// package name mean the same plugin, whoever is installed besides.
func (in *Installer) checkTaken(ctx context.Context, key plugin.Key, name string) error {
	all, err := in.Records.List(ctx)
	if err != nil {
		return fmt.Errorf("cannot read what is installed: %w", err)
	}
	for _, i := range all {
		if i.Key.Tenant != key.Tenant || i.Key.ID == key.ID {
			continue
		}
		if taken := i.Descriptor.Name; taken == name || taken == key.ID || i.Key.ID == name {
			return fault.New(errdefs.ErrConflict, "name_taken", "the plugin %s of the package %s cannot be told from the installed plugin %s of the package %s", key.ID, name, i.Key.ID, taken).
				WithHint("uninstall the other one first: ocmt plugins uninstall %s", i.Key.ID)
		}
	}
	return nil
}

// checkName refuses a package that is installed, before it is fetched.
func (in *Installer) checkName(ctx context.Context, tenant, name string) error {
	all, err := in.Records.List(ctx)
	if err != nil {
		return fmt.Errorf("cannot read what is installed: %w", err)
	}
	for _, i := range all {
		if i.Key.Tenant == tenant && i.Descriptor.Name == name {
			return alreadyInstalled(i)
		}
	}
	return nil
}

func alreadyInstalled(i plugin.Installed) error {
	return fault.New(errdefs.ErrAlreadyExists, "already_installed", "the plugin %s is installed, in version %s", i.Key.ID, i.Descriptor.Version).
		WithHint("to get another version, uninstall it first, its state kept: ocmt plugins uninstall %s --keep-state", i.Key.ID)
}

func (in *Installer) find(ctx context.Context, key plugin.Key) (plugin.Installed, error) {
	all, err := in.Records.List(ctx)
	if err != nil {
		return plugin.Installed{}, fmt.Errorf("cannot read what is installed: %w", err)
	}
	for _, i := range all {
		if i.Key == key {
			return i, nil
		}
	}
	return plugin.Installed{}, fault.New(errdefs.ErrNotFound, "plugin_not_found", "there is no plugin %s", key.ID).
		WithHint("see what there is with: ocmt plugins list")
}

// Uninstall removes an installed plugin, which must not run any more: its
// state unless keepState, its record, and its payload where no other plugin
// has the same. It can be repeated after a failure. NotFound when there is no
// such plugin.
func (in *Installer) Uninstall(ctx context.Context, key plugin.Key, keepState bool) error {
	release, err := in.claim(key)
	if err != nil {
		return err
	}
	defer release()
	installed, err := in.find(ctx, key)
	if err != nil {
		return err
	}
	if !keepState {
		if err := in.RemoveState(ctx, key); err != nil {
			return fmt.Errorf("cannot remove the plugin's state: %w", err)
		}
	}
	if err := in.Records.Delete(ctx, key); err != nil {
		return fmt.Errorf("cannot remove the plugin's record: %w", err)
	}
	return in.collect(ctx, installed.Payload)
}

// Recover removes what a crash left behind. It must run before the first
// install of the process.
func (in *Installer) Recover(ctx context.Context) error {
	leftovers, err := os.ReadDir(in.StagingDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot read the staging directory: %w", err)
	}
	for _, l := range leftovers {
		if err := in.Fetcher.Remove(ctx, path.Join(in.StagingDir, l.Name())); err != nil {
			return err
		}
	}
	if err := seal.Clean(in.StoreDir); err != nil {
		return err
	}
	return in.Prune(ctx)
}

// cleanup is a context for work that must be done although ctx has ended.
func cleanup(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
}

// reporter returns the report function of a step.
func reporter(progress func(Progress)) func(step string) fetch.Report {
	return func(step string) fetch.Report {
		return func(message string, done, total int64) {
			if progress != nil {
				progress(Progress{Step: step, Message: message, Done: done, Total: total})
			}
		}
	}
}
