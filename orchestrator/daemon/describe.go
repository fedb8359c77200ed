package daemon

import (
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/supervisor"
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
	out.Generation, out.Restarts, out.Instance = st.Generation, st.Restarts, st.Instance
	if e := st.LastExit; !e.At.IsZero() {
		out.LastExit = &v1.Exit{At: e.At, Class: string(e.Class), Code: e.Code, Detail: e.Message}
	}
	return out
}

// detail returns all that is known of a plugin.
func (d *Daemon) detail(p plugin.Installed) v1.PluginDetail {
	out := v1.PluginDetail{
		Plugin: d.describe(p),
		Digest: p.Payload.Digest, Form: p.Payload.Form, Size: p.Payload.Size, Files: p.Payload.Files,
		Integrity: p.Integrity, InstalledAt: p.InstalledAt,
		ToolList: toolList(d.catalog.offered(p)), Registrations: []v1.Registration{},
	}
	if st, err := d.supervisor.Status(p.Key); err == nil && st.State == supervisor.StateRunning {
		out.ReadySince = &st.Since
	}
	for _, r := range p.Surface.Registrations {
		if r.Kind != plugin.KindTool {
			out.Registrations = append(out.Registrations, v1.Registration{Kind: r.Kind, Name: r.Name})
		}
	}
	for _, diag := range p.Surface.Diagnostics {
		out.Diagnostics = append(out.Diagnostics, v1.Diagnostic(diag))
	}
	return out
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
