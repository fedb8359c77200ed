package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// confirm shows the warning and asks. Anything but yes is no.
func (a *app) confirm(ctx context.Context, from origin) error {
	fmt.Fprint(a.env.Stderr, plugin.Warning(from.source, from.spec), " ")
	line, ok := a.stdin.next(ctx, a.env.Stdin)
	if !ok {
		fmt.Fprintln(a.env.Stderr)
	}
	if ctx.Err() != nil {
		return refused("interrupted before an answer")
	}
	if answerOf(line) != "y" {
		return refused("the installation was not confirmed")
	}
	return nil
}

// answerOf reads an answer: "yes" is "y", whatever its case, and so on for
// "no", "cancel" and "always".
func answerOf(line string) string {
	text := strings.ToLower(strings.TrimSpace(line))
	switch text {
	case "yes", "no", "cancel", "always":
		return text[:1]
	}
	return text
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
