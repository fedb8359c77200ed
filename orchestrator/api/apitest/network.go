package apitest

import (
	"context"
	"slices"
	"time"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

// connections are one second apart: demo's, with terminal escapes among them,
// and one of metrics.
func connections() []v1.Connection {
	list := []v1.Connection{
		{Plugin: "demo", Phase: v1.PhaseOpen, Host: "api.example.com", Port: 443, Address: "203.0.113.7:443", SNI: "api.example.com", Allowed: true, Rule: "*.example.com:443"},
		{Plugin: "demo", Phase: v1.PhaseRequest, Host: "api.example.com", Port: 443, Allowed: true, Method: "POST", Path: "/v1/search", Secrets: []string{"EXAMPLE_KEY"}},
		{Plugin: "demo", Phase: v1.PhaseClose, Host: "api.example.com", Port: 443, Allowed: true, BytesUp: 1200, BytesDown: 5 << 20, DurationMillis: 1500},
		{Plugin: "demo", Phase: v1.PhaseDenied, Host: "evil.example\x1b[2J", Code: "not_granted", Detail: "no rule names it", Command: "ocmt plugins grant demo network evil.example:443"},
		{Plugin: "demo", Phase: v1.PhaseDenied, Code: "rate", Detail: "too many connections", Count: 12},
		{Plugin: "metrics", Tenant: "acme", Phase: v1.PhaseDenied, Host: "169.254.169.254", Port: 80, Code: "not_granted"},
	}
	for i := range list {
		list[i].Time = Epoch.Add(time.Duration(i) * time.Second)
		if list[i].Tenant == "" {
			list[i].Tenant = "default"
		}
	}
	return list
}

// Connections returns four entries of demo that were made since New, of them one
// of several denials, and one of metrics.
func (b *Backend) Connections(ctx context.Context, tenant string, q v1.ConnectionQuery) ([]v1.Connection, error) {
	id := q.Plugin
	if id != "" && tenant != "" {
		p, err := b.Get(ctx, tenant, q.Plugin)
		if err != nil {
			return nil, err
		}
		id = p.ID
	}
	list := slices.DeleteFunc(connections(), func(c v1.Connection) bool {
		return tenant != "" && c.Tenant != tenant || id != "" && c.Plugin != id || q.Denied && c.Allowed && c.Code == "" || !q.Since.IsZero() && !c.Time.After(q.Since)
	})
	return list[max(0, len(list)-q.Limit):], nil
}

// Connect tells watchers of a connection of demo.
func (b *Backend) Connect(c v1.Connection) {
	b.event("default", "demo", v1.EventConnection, c)
}
