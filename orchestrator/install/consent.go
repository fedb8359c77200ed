package install

import (
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// warning is the security document's, word for word, with the source and the
// spec to be filled in.
const warning = `Security Warning:
You are about to install an external plugin from %s: %s

External plugins can:
  - Execute arbitrary code on your system
  - Access your configuration and secrets
  - Make network requests on your behalf

Only install plugins from sources you trust.

Do you want to continue with the installation? (y/N)`

// Warning returns what a person must be shown before a plugin is installed,
// down to the question. The spec is made fit for a terminal.
func Warning(source plugin.Source, spec string) string {
	return fmt.Sprintf(warning, source, plugin.Printable(spec, 300))
}

// NeedsConfirmation says whether a person must confirm an install from the
// source: of npm packages and archives, but not of a local directory, which
// its user controls. Unknown sources need it.
func NeedsConfirmation(source plugin.Source) bool { return source != plugin.SourcePath }

func checkConsent(req Request) error {
	if NeedsConfirmation(req.Source) && !req.Confirmed {
		return fault.New(errdefs.ErrPermissionDenied, "not_confirmed", "nobody confirmed to install %s from %s", plugin.Printable(req.Spec, 200), req.Source).
			WithHint("read the security warning and answer y, or give --yes in a script")
	}
	return nil
}
