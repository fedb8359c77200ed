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

// confirm shows the warning and asks. Anything but yes is no.
func (a *app) confirm(ctx context.Context, from origin) error {
	fmt.Fprint(a.env.Stderr, plugin.Warning(from.source, from.spec), " ")
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
