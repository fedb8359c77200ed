package cli

import (
	"github.com/spf13/cobra"

	"github.com/ocmt/ocmt/orchestrator/client"
)

func (a *app) resetCommand() *cobra.Command {
	cmd := a.changeCommand("reset", "Forget what went wrong with a plugin and start it", (*client.Client).Reset)
	cmd.Long = `Forget what went wrong with a plugin: a crashlooped one is started at once, and
its next failures count from zero. One in quarantine is let out if its sealed
payload is again what was installed; if it is not, "ocmt plugins reinstall ID"
gets it again. The command waits until the plugin runs, or says why it does not.
One that is switched off stays off.`
	return cmd
}
