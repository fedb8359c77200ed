package cli

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// warning is the plugin security model's, word for word; only the source is
// the one at hand.
const warning = `Security Warning:
You are about to install an external plugin from %s: %s

External plugins can:
  - Execute arbitrary code on your system
  - Access your configuration and secrets
  - Make network requests on your behalf

Only install plugins from sources you trust.

Do you want to continue with the installation? (y/N) `

// confirm shows the warning and asks. Anything but yes is no.
func (a *app) confirm(ctx context.Context, from origin) error {
	source := "npm"
	if from.source == plugin.SourceArchive {
		source = "an archive"
	}
	fmt.Fprintf(a.env.Stderr, warning, source, clean(from.spec))
	line := make(chan string, 1)
	go func() { // a read cannot be interrupted; no answer is no
		text, _ := bufio.NewReader(a.env.Stdin).ReadString('\n')
		line <- text
	}()
	select {
	case text := <-line:
		switch strings.ToLower(strings.TrimSpace(text)) {
		case "y", "yes":
			return nil
		}
		return refused("the installation was not confirmed")
	case <-ctx.Done():
		fmt.Fprintln(a.env.Stderr)
		return refused("interrupted before an answer")
	}
}

func refused(message string) error {
	return fault.New(errdefs.ErrPermissionDenied, "refused", "%s; nothing was installed", message)
}

// cannotAsk refuses where nobody can be asked.
func cannotAsk(from origin) error {
	return fault.New(errdefs.ErrPermissionDenied, "refused",
		"cannot ask whether to install %s: standard input is no terminal", from.spec).
		WithHint("pass --yes if you trust this plugin")
}
