package daemon

import (
	"context"
	"encoding/json"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/audit"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
)

// networkAction begins the action of every record of a connection.
const networkAction = "network."

// defaultConnections is how many entries are sent to who does not say.
const defaultConnections = 200

// lookBack is how far back the newest entries are looked for. The whole of the
// log, which may be large, is read only when they are not found so.
var lookBack = []time.Duration{time.Hour, 24 * time.Hour, 7 * 24 * time.Hour}

// networkAPI implements httpapi.Network.
type networkAPI struct{ d *Daemon }

// Connections reads the network log, which is a part of the audit log.
func (b networkAPI) Connections(ctx context.Context, tenant string, q v1.ConnectionQuery) ([]v1.Connection, error) {
	if q.Limit <= 0 {
		q.Limit = defaultConnections
	}
	if tenant != "" && q.Plugin != "" { // of all tenants it is an id
		p, err := b.d.catalog.get(tenant, q.Plugin)
		if err != nil {
			return nil, err
		}
		q.Plugin = p.Key.ID
	}
	now, oldest := time.Now(), q.Since
	for _, back := range lookBack {
		if q.Since = now.Add(-back); !q.Since.After(oldest) {
			break
		}
		if list, err := b.newest(ctx, tenant, q); err != nil || len(list) == q.Limit {
			return list, err
		}
	}
	q.Since = oldest
	return b.newest(ctx, tenant, q)
}

// newest reads the log from q.Since on.
func (b networkAPI) newest(ctx context.Context, tenant string, q v1.ConnectionQuery) ([]v1.Connection, error) {
	var list []v1.Connection // a ring once it is full
	next := 0
	err := audit.Read(ctx, b.d.home.Audit(), audit.ReadOptions{Tenant: tenant, Since: q.Since}, func(e audit.Entry) error {
		phase, ok := strings.CutPrefix(e.Action, networkAction)
		denied := e.Outcome == outcomeDenied || e.Code != ""
		if !ok || q.Plugin != "" && e.Plugin != q.Plugin || q.Denied && !denied {
			return nil
		}
		if c := connectionFrom(e, phase); len(list) < q.Limit {
			list = append(list, c)
		} else {
			list[next] = c
			next = (next + 1) % q.Limit
		}
		return nil
	})
	list = slices.Concat(list[next:], list[:next])
	b.d.addCommands(list)
	return list, err
}

// addCommands adds what would grant what was denied.
func (d *Daemon) addCommands(list []v1.Connection) {
	granted := map[plugin.Key]policy.Effective{}
	for i, c := range list {
		key := plugin.Key{Tenant: c.Tenant, ID: c.Plugin}
		if key.ID == "" || c.Allowed {
			continue
		}
		if _, ok := granted[key]; !ok {
			granted[key] = d.grantedTo(key)
		}
		if ask, ok := askFor(granted[key], c); ok {
			list[i].Command = policy.Command(key, ask)
		}
	}
}

// connectionFrom reads a record of the audit log.
func connectionFrom(e audit.Entry, phase string) v1.Connection {
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
	return out
}
