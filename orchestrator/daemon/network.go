package daemon

import (
	"context"
	"fmt"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/audit"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
	"github.com/ocmt/ocmt/sandbox/egress"
	"github.com/ocmt/ocmt/sandbox/egress/link"
)

// networkOf turns grants into the broker's rules. A rule that the broker does
// not take is left out: then nothing is reached there.
func (d *Daemon) networkOf(key plugin.Key, e policy.Effective) egress.Policy {
	rules := make([]egress.Rule, 0, len(e.Network))
	for _, n := range e.Network {
		rule := egress.Rule{Host: n.Host, Port: n.Port, Plaintext: n.Plaintext, Allow: n.Addresses}
		if err := rule.Validate(); err != nil {
			d.logger.Error("a network grant cannot be put into force", "tenant", key.Tenant, "plugin", key.ID, "host", n.Host, "error", err)
			continue
		}
		rules = append(rules, rule)
	}
	p, err := egress.NewPolicy(rules...)
	if err != nil {
		d.logger.Error("no network grant is in force", "tenant", key.Tenant, "plugin", key.ID, "error", err)
		return egress.Policy{}
	}
	return p
}

// onConnection records a plugin's connection, which is refused when that
// fails, and makes a request of a destination that was not granted.
func (d *Daemon) onConnection(key plugin.Key, c egress.Connection) error {
	rec := audit.Record{
		Time: c.Time, Tenant: key.Tenant, Plugin: key.ID, Actor: networkActor(key), Action: "network." + string(c.Phase),
		Target: destination(c), Outcome: outcomeAllowed, Code: string(c.Code),
		DurationMicros: c.Duration.Microseconds(), Details: connectionDetails(c),
	}
	if !c.Allowed { // also of one that was opened and sent no TLS, or for another name
		rec.Outcome = outcomeDenied
	}
	if err := d.note(context.Background(), rec); err != nil {
		return err
	}
	if c.Phase == egress.PhaseClose && c.Allowed {
		return nil
	}
	event := v1.Connection{Host: plugin.Printable(c.Host, 256), Port: c.Port, Allowed: c.Allowed, Code: string(c.Code)}
	if c.Code == link.NotGranted && key.ID != "" {
		event.Command = d.wishNetwork(key, c)
	}
	d.events.Publish(key.Tenant, key.ID, v1.EventConnection, event)
	return nil
}

// networkActor is who connects: npm, while it installs, is no plugin.
func networkActor(key plugin.Key) string {
	if key.ID == "" {
		return theDaemon
	}
	return "plugin:" + key.ID
}

// wishNetwork notes the destination as a request and returns the command that
// would grant it. Of a name that was only looked up the port is not known: the
// request is for the usual one.
func (d *Daemon) wishNetwork(key plugin.Key, c egress.Connection) string {
	port := c.Port
	if port == 0 {
		port = 443
	}
	ask, err := policy.Tried(c.Host, port)
	if err != nil { // no name that could be granted
		return ""
	}
	d.authority.Wish(key, ask)
	return policy.Command(key, ask)
}

func destination(c egress.Connection) string {
	if c.Port == 0 {
		return c.Host
	}
	return fmt.Sprintf("%s:%d", c.Host, c.Port)
}

// connectionDetail is what the audit log keeps of a connection.
type connectionDetail struct {
	Address string `json:"address,omitempty"`
	SNI     string `json:"sni,omitempty"`
	Up      int64  `json:"bytesUp,omitempty"`
	Down    int64  `json:"bytesDown,omitempty"`
	Count   int    `json:"count,omitempty"`
	Detail  string `json:"detail,omitempty"`
}

func connectionDetails(c egress.Connection) connectionDetail {
	out := connectionDetail{SNI: c.SNI, Up: c.BytesUp, Down: c.BytesDown, Detail: c.Detail}
	if c.Address.IsValid() {
		out.Address = c.Address.String()
	}
	if c.Count > 1 {
		out.Count = c.Count
	}
	return out
}
