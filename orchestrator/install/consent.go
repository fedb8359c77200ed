package install

import (
	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// checkConsent refuses what a person should have confirmed and did not. The
// command line asks, but what asks is not what enforces.
func checkConsent(req Request) error {
	if plugin.NeedsConfirmation(req.Source) && !req.Confirmed {
		return fault.New(errdefs.ErrPermissionDenied, "not_confirmed", "nobody confirmed to install %s from %s", plugin.Printable(req.Spec, 200), req.Source).
			WithHint("read the security warning and answer y, or give --yes in a script")
	}
	return nil
}
