package install

import (
	"context"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/install/fetch"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Reinstall gets an installed plugin once more and puts its sealed files back
// in their place, whatever has become of them there. Of req only Upload,
// Confirmed, Progress and Review count; the rest is as it was installed.
//
// Of npm it asks for the very version that is installed, and refuses a package
// whose integrity is another. Where the files come to the recorded digest,
// nothing but the store changes, and nobody is asked. Where they do not, since
// a directory was edited or a dependency has a later version, they are loaded,
// reviewed and recorded as an install over the plugin is.
//
// The plugin itself is not asked and may be in any state. After an error what
// was installed is as it was.
func (in *Installer) Reinstall(ctx context.Context, key plugin.Key, req Request) (plugin.Installed, error) {
	report := reporter(req.Progress)
	release, err := in.claim(key)
	if err != nil {
		return plugin.Installed{}, err
	}
	defer release()
	before, err := in.find(ctx, key)
	if err != nil {
		return plugin.Installed{}, err
	}
	req = again(req, before)
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
	candidate := before
	if candidate.Descriptor, err = describe(fetched); err != nil {
		return plugin.Installed{}, err
	}
	if err := checkSame(before, candidate.Descriptor, fetched); err != nil {
		return plugin.Installed{}, err
	}
	payload, unpin, err := in.seal(ctx, fetched.Tree, report(StepSeal))
	if err != nil {
		return plugin.Installed{}, err
	}
	defer unpin()
	if objectOf(payload) == objectOf(before.Payload) {
		return before, nil
	}
	candidate.Payload, candidate.FirstInstalledAt = payload, before.FirstInstalled()
	return in.admit(ctx, req, candidate, fetched.Scripts, report)
}

// again makes req ask for what is installed. The one version of an npm package
// was confirmed when it was installed; an archive may be another one by now.
func again(req Request, before plugin.Installed) Request {
	req.Tenant, req.Source, req.Spec, req.Replace = before.Key.Tenant, before.Source, before.Spec, true
	if req.Source == plugin.SourceNPM {
		req.Spec, req.Confirmed = before.Descriptor.Name+"@"+before.Descriptor.Version, true
	}
	return req
}

// checkSame refuses what is not the plugin that is installed.
func checkSame(before plugin.Installed, d plugin.Descriptor, fetched fetch.Fetched) error {
	id := before.Key.ID
	if d.ID != id || d.Name != before.Descriptor.Name {
		return fault.New(errdefs.ErrFailedPrecondition, "another_plugin", "%s is now the plugin %s of the package %s, not %s of %s",
			plugin.Printable(before.Spec, 200), d.ID, d.Name, id, before.Descriptor.Name).
			WithHint("put back what was there, or install from where it is now: %s", anew(id))
	}
	if before.Source == plugin.SourceNPM && (fetched.Integrity != before.Integrity || d.Version != before.Descriptor.Version) {
		return fault.New(errdefs.ErrFailedPrecondition, "package_changed",
			"the registry now serves something else as %s@%s: installed was %s, it has %s",
			d.Name, before.Descriptor.Version, before.Integrity, fetched.Integrity).
			WithHint("find out why before you trust it; to take it all the same: %s", anew(id))
	}
	return nil
}

func anew(id string) string {
	return "ocmt plugins uninstall " + id + " --keep-state, then ocmt plugins install SPEC"
}
