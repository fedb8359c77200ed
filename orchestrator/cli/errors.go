package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// exitCode maps an error's class to the exit code of the process.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	class := fault.Of(err).Class()
	for _, c := range []struct {
		class error
		code  int
	}{
		{errdefs.ErrInvalidArgument, 2},
		{errdefs.ErrNotFound, 3},
		{errdefs.ErrPermissionDenied, 4},
		{fault.ErrPlugin, 5},
		{context.DeadlineExceeded, 6},
		{errdefs.ErrUnavailable, 7},
	} {
		if errors.Is(class, c.class) {
			return c.code
		}
	}
	return 1
}

// printError prints an error and what to do about it, as commands of the
// tenant that was worked in. Both may quote a plugin, so that further lines are
// indented: they cannot pass for ours.
func printError(w io.Writer, err error, tenant string) {
	f := fault.Of(err)
	message := strings.TrimSuffix(f.Message, ": "+f.Class().Error())
	fmt.Fprintf(w, "ocmt: %s\n", indent(message))
	if f.Hint != "" {
		hint := f.Hint
		if f.Code != usageCode {
			hint = forTenant(hint, tenant)
		}
		fmt.Fprintf(w, "  hint: %s\n", indent(hint))
	}
	if said := quoted(f.Details); said != "" {
		fmt.Fprintf(w, "  the plugin printed:\n        %s\n", indent(said))
	}
}

// ofTenant matches the beginning of a command that works in a tenant.
var ofTenant = regexp.MustCompile(`\bocmt (?:plugins|tools|hooks|services|approvals|events|status|audit|secrets|network)\b`)

// forTenant makes the commands in a text commands of the tenant, unless it
// names one already.
func forTenant(text, tenant string) string {
	if tenant == plugin.DefaultTenant || plugin.CheckTenant(tenant) != nil || strings.Contains(text, "--tenant") {
		return text
	}
	return ofTenant.ReplaceAllStringFunc(text, func(command string) string {
		return "ocmt --tenant " + tenant + strings.TrimPrefix(command, "ocmt")
	})
}

// quoted returns the plugin's own output among the details, if there is any.
func quoted(details any) string {
	raw, ok := details.(json.RawMessage)
	if !ok {
		return ""
	}
	var said struct {
		Output string `json:"output"`
	}
	if err := json.Unmarshal(raw, &said); err != nil {
		return "" // details of another form
	}
	return said.Output
}

func indent(s string) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	for i, line := range lines {
		lines[i] = clean(line)
	}
	return strings.Join(lines, "\n        ")
}
