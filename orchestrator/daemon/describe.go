package daemon

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
	"github.com/ocmt/ocmt/orchestrator/supervisor"
	"github.com/ocmt/ocmt/sandbox"
)

// describe returns a plugin as the API shows it.
func (d *Daemon) describe(p plugin.Installed) v1.Plugin {
	out := v1.Plugin{
		Tenant: p.Key.Tenant, ID: p.Key.ID, Name: p.Descriptor.Name, Version: p.Descriptor.Version,
		Description: p.Descriptor.Description, Source: string(p.Source), Spec: p.Spec,
		Enabled: d.catalog.enabled(p.Key), Linked: p.Linked, State: string(supervisor.StateStopped), Tools: len(d.catalog.offered(p).Surface.Tools()),
	}
	st, err := d.supervisor.Status(p.Key)
	if err != nil {
		out.Reason = err.Error()
		return out
	}
	out.State, out.Reason = string(st.State), st.LastError
	out.Generation, out.Restarts, out.ShortRuns, out.Instance = st.Generation, st.Restarts, st.ShortRuns, st.Instance
	if !st.NextAttempt.IsZero() {
		out.NextAttempt = &st.NextAttempt
	}
	if u := d.newest(p.Key); u != nil {
		out.Adopted = u.adopted
	}
	if e := st.LastExit; !e.At.IsZero() {
		out.LastExit = &v1.Exit{At: e.At, Class: string(e.Class), Code: e.Code, Detail: e.Message}
	}
	return out
}

// describeFully is describe with what a plugin printed before it ended, which
// is read from the disk.
func (d *Daemon) describeFully(p plugin.Installed) v1.Plugin {
	out := d.describe(p)
	if e := out.LastExit; e != nil && e.Class != string(supervisor.ClassStopped) {
		lately := time.Since(e.At) < recentExit
		if lately || out.State != string(supervisor.StateRunning) {
			e.Output = d.lastWords(p.Key, e.At)
		}
	}
	return out
}

// recentExit is how long a plugin that runs again is shown with the last lines
// of the instance before.
const recentExit = 10 * time.Minute

// lastWordsFrom is how many lines are read for the few that are shown: a
// program's end is often told by a long stack.
const lastWordsFrom = 100

// lastWords returns the last lines of an instance that ended at a time; nothing
// while they are not kept yet, or if it never ran.
func (d *Daemon) lastWords(key plugin.Key, ended time.Time) string {
	info, err := os.Stat(d.home.PreviousLog(key))
	if err != nil || info.ModTime().Before(ended) { // those of an earlier one
		return ""
	}
	lines, err := d.factory.PreviousLines(key, sandbox.LogOptions{Tail: lastWordsFrom})
	if err != nil {
		d.logger.Warn("cannot read what a plugin printed before it ended", "tenant", key.Tenant, "plugin", key.ID, "error", err)
		return ""
	}
	told := slices.DeleteFunc(slices.Clone(lines), func(l sandbox.LogLine) bool { return saysNothing.MatchString(l.Line) })
	if len(told) == 0 {
		told = lines
	}
	return tail(told[max(0, len(told)-v1.MaxOutputLines):], v1.MaxOutputBytes)
}

// saysNothing matches what comes after the words that say why a program ended:
// empty lines, frames of the stack, Node's version, and the exit code, which is
// shown anyway.
var saysNothing = regexp.MustCompile(`^\s*$|^\s+at |^Node\.js v|^ocmt-init: `)

// tail joins the last lines that fit into so many bytes; a last line that alone
// does not is cut.
func tail(lines []sandbox.LogLine, size int) string {
	text := ""
	for _, line := range slices.Backward(lines) {
		longer := line.Line
		if text != "" {
			longer += "\n" + text
		}
		if len(longer) > size {
			if text == "" {
				return strings.ToValidUTF8(longer[:size], "")
			}
			break
		}
		text = longer
	}
	return text
}

// detail returns all that is known of a plugin.
func (d *Daemon) detail(ctx context.Context, p plugin.Installed) v1.PluginDetail {
	out := v1.PluginDetail{
		Plugin: d.describeFully(p),
		Digest: p.Payload.Digest, Form: p.Payload.Form, Size: p.Payload.Size, Files: p.Payload.Files,
		Integrity: p.Integrity, InstalledAt: p.InstalledAt,
		ToolList: toolList(d.catalog.offered(p)), Registrations: []v1.Registration{},
	}
	if st, err := d.supervisor.Status(p.Key); err == nil && st.State == supervisor.StateRunning {
		out.ReadySince = &st.Since
	}
	d.describeSandbox(ctx, p, &out)
	for _, r := range p.Surface.Registrations {
		if r.Kind != plugin.KindTool {
			out.Registrations = append(out.Registrations, v1.Registration{Kind: r.Kind, Name: r.Name})
		}
	}
	for _, diag := range p.Surface.Diagnostics {
		out.Diagnostics = append(out.Diagnostics, v1.Diagnostic(diag))
	}
	out.Diagnostics = append(out.Diagnostics, d.plainKeys(p.Key)...)
	return out
}

// maxPlainKeys is how many keys in a configuration are named.
const maxPlainKeys = 16

// plainKeys names what stands in the plugin's configuration and looks like keys
// that could be secrets.
func (d *Daemon) plainKeys(key plugin.Key) []v1.Diagnostic {
	entry, _ := d.catalog.entry(key)
	paths := policy.PlainSecrets(entry.Config)
	var list []v1.Diagnostic
	for _, path := range paths[:min(len(paths), maxPlainKeys)] {
		list = append(list, v1.Diagnostic{Level: "warn", Message: fmt.Sprintf(
			"%[1]s in its configuration looks like a key; to keep it from the plugin: ocmt secrets move %[2]s%[3]s %[1]s NAME --host HOST --header HEADER",
			plugin.Printable(path, 200), key.ID, tenantFlag(key.Tenant))})
	}
	return list
}

// describeSandbox adds what the plugin runs in.
func (d *Daemon) describeSandbox(ctx context.Context, p plugin.Installed, out *v1.PluginDetail) {
	out.Trust, out.Runtime = string(plugin.TrustOf(p.Source)), cmp.Or(d.runtimeOf(p.Source), d.runtime())
	u := d.newest(p.Key)
	if u == nil {
		return
	}
	stats := u.NetworkStats()
	out.Network = &v1.NetworkStats{
		Open: stats.Open, Allowed: stats.Allowed, Denied: stats.Denied, Reported: stats.Reported, BytesUp: stats.BytesUp, BytesDown: stats.BytesDown,
	}
	if kind, size, used, err := d.factory.StateUse(ctx, u.Instance); err == nil { // else it is ending
		out.StateDir = &v1.StateUse{Kind: kind, Max: size, Used: used}
	}
	for _, c := range sandbox.Table(u.Spec(), d.info) {
		out.Profile = append(out.Profile, v1.ProfileRow(c))
	}
}

func toolList(p plugin.Installed) []v1.Tool {
	list := []v1.Tool{}
	for _, t := range p.Surface.Tools() {
		list = append(list, v1.Tool{
			Tenant: p.Key.Tenant, Plugin: p.Key.ID, Name: t.Name, Label: t.Label,
			Description: t.Description, Parameters: t.Parameters, Optional: t.Optional,
		})
	}
	return list
}
