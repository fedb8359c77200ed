package daemon

import (
	"context"
	"encoding/json"
	"net"
	"strconv"
	"strings"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/audit"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
)

// networkAction begins the action of every record of a connection.
const networkAction = "network."

// networkAPI implements httpapi.Network.
type networkAPI struct{ d *Daemon }

// Connections reads the network log, which is a part of the audit log.
func (b networkAPI) Connections(ctx context.Context, tenant string, q v1.ConnectionQuery) ([]v1.Connection, error) {
	id := ""
	if q.Plugin != "" {
		p, err := b.d.catalog.get(tenant, q.Plugin)
		if err != nil {
			return nil, err
		}
		id = p.Key.ID
	}
	var newest []v1.Connection // a ring once it is full
	next := 0
	err := audit.Read(ctx, b.d.home.Audit(), audit.ReadOptions{Tenant: tenant, Since: q.Since}, func(e audit.Entry) error {
		phase, ok := strings.CutPrefix(e.Action, networkAction)
		denied := e.Outcome == outcomeDenied || e.Code != ""
		if !ok || id != "" && e.Plugin != id || q.Denied && !denied {
			return nil
		}
		c := b.d.connectionFrom(e, phase)
		if len(newest) < q.Limit {
			newest = append(newest, c)
			return nil
		}
		newest[next] = c
		next = (next + 1) % q.Limit
		return nil
	})
	return append(newest[next:len(newest):len(newest)], newest[:next]...), err
}

// connectionFrom reads a record of the audit log.
func (d *Daemon) connectionFrom(e audit.Entry, phase string) v1.Connection {
	var detail connectionDetail
	_ = json.Unmarshal(e.Details, &detail) // what cannot be read is left out
	out := v1.Connection{
		Time: e.Time, Tenant: e.Tenant, Plugin: e.Plugin, Phase: phase, Host: e.Target, Address: detail.Address, SNI: detail.SNI,
		Allowed: e.Outcome == outcomeAllowed, Code: e.Code, Detail: detail.Detail, Rule: detail.Rule, BytesUp: detail.Up, BytesDown: detail.Down,
		DurationMillis: e.DurationMicros / 1000, Count: detail.Count,
		Method: detail.Method, Path: detail.Path, Status: detail.Status, Secrets: detail.Secrets,
	}
	if host, port, err := net.SplitHostPort(e.Target); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err == nil {
			out.Host, out.Port = host, uint16(n)
		}
	}
	if key := (plugin.Key{Tenant: e.Tenant, ID: e.Plugin}); key.ID != "" {
		if ask, ok := askFor(d.authority.Effective(key), out); ok {
			out.Command = policy.Command(key, ask)
		}
	}
	return out
}
