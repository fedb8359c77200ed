package daemon

import (
	"cmp"
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/time/rate"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/audit"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
	"github.com/ocmt/ocmt/orchestrator/secrets"
	"github.com/ocmt/ocmt/sandbox/egress"
	"github.com/ocmt/ocmt/sandbox/egress/link"
)

// networkOf turns grants into the broker's rules, with the secrets that go to
// each destination. A rule that the broker does not take is left out: then
// nothing is reached there.
func (d *Daemon) networkOf(key plugin.Key, e policy.Effective) egress.Policy {
	granted := d.grantedSecrets(key, e)
	var rules []egress.Rule
	for _, n := range withSecretHosts(e.Network, granted) {
		rule, err := d.ruleOf(key, n, granted)
		if err != nil {
			d.logger.Error("a network grant cannot be put into force", "tenant", key.Tenant, "plugin", key.ID, "host", n.Host, "error", err)
			continue
		}
		rules = append(rules, rule)
	}
	if len(rules) > link.MaxGrants {
		d.logger.Error("more destinations are granted than possible; the last ones are not in force", "tenant", key.Tenant, "plugin", key.ID, "granted", len(rules))
		rules = rules[:link.MaxGrants]
	}
	p, err := egress.NewPolicy(rules...)
	if err != nil {
		d.logger.Error("no network grant is in force", "tenant", key.Tenant, "plugin", key.ID, "error", err)
		return egress.Policy{}
	}
	return p
}

// withSecretHosts adds a rule of its own for the host of a secret that only a
// wildcard grants: a secret goes to its host and to no other.
func withSecretHosts(network []policy.NetworkRule, granted []secrets.Secret) []policy.NetworkRule {
	out := slices.Clone(network)
	for _, s := range granted {
		exact := slices.ContainsFunc(out, func(n policy.NetworkRule) bool { return n.Host == s.Host && n.Port == s.Port })
		i := slices.IndexFunc(network, func(n policy.NetworkRule) bool { return n.Matches(s.Host, s.Port) })
		if exact || i < 0 {
			continue
		}
		own := network[i]
		own.Host = s.Host
		out = append(out, own)
	}
	return out
}

// ruleOf is the broker's rule for a destination.
func (d *Daemon) ruleOf(key plugin.Key, n policy.NetworkRule, granted []secrets.Secret) (egress.Rule, error) {
	rule := egress.Rule{Host: n.Host, Port: n.Port, Plaintext: n.Plaintext, Allow: n.Addresses}
	if d.isOurs(n) {
		return egress.Rule{}, fault.New(errdefs.ErrPermissionDenied, "own_socket", "ocmt itself listens there")
	}
	for _, text := range n.Requests {
		request, err := egress.ParseRequestRule(text)
		if err != nil {
			return egress.Rule{}, err
		}
		rule.Requests = append(rule.Requests, request)
	}
	for _, s := range granted {
		if !goesTo(s, n) {
			continue
		}
		if n.Plaintext {
			d.logger.Warn("a secret is not sent to where plain text may pass", "tenant", key.Tenant, "plugin", key.ID, "name", s.Name, "host", n.Host)
			continue
		}
		value, err := d.secrets.Value(key.Tenant, s.Name)
		if err != nil {
			return egress.Rule{}, err
		}
		rule.Secrets = append(rule.Secrets, egress.Secret{
			Name: s.Name, Placeholder: d.secrets.Placeholder(key, s.Name), Value: value, Header: s.Header, Query: s.Query,
		})
	}
	return rule, rule.Validate()
}

// goesTo reports whether a secret may go wherever the rule leads.
func goesTo(s secrets.Secret, n policy.NetworkRule) bool {
	bound := policy.NetworkRule{Host: s.Host, Port: s.Port}
	return s.Port == n.Port && (s.Host == n.Host || !strings.HasPrefix(n.Host, "*.") && bound.Matches(n.Host, n.Port))
}

// onConnection records a plugin's connection, which is refused when that
// fails, and makes a request of a destination that was not granted.
func (d *Daemon) onConnection(key plugin.Key, c egress.Connection) error {
	if err := d.recordConnection(key, c); err != nil {
		return err
	}
	told := connectionOf(key, c)
	if key.ID != "" {
		told.Command = d.wishNetwork(key, c)
	}
	if !c.Allowed || d.busy.allow(key) {
		d.events.Publish(key.Tenant, key.ID, v1.EventConnection, told)
	}
	return nil
}

// A plugin that connects all the time must not push everything else out of the
// events that are kept. The audit log has all of it.
const (
	allowedPerSecond = 20
	allowedBurst     = 200
)

// busy bounds, by plugin, the events about what was allowed.
type busy struct {
	mu       sync.Mutex
	limiters map[plugin.Key]*rate.Limiter
}

func newBusy() *busy { return &busy{limiters: map[plugin.Key]*rate.Limiter{}} }

func (b *busy) allow(key plugin.Key) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.limiters[key]
	if l == nil {
		l = rate.NewLimiter(allowedPerSecond, allowedBurst)
		b.limiters[key] = l
	}
	return l.Allow()
}

func (b *busy) forget(key plugin.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.limiters, key)
}

// recordConnection records a connection or a request. That a secret is used is
// on the disk before the secret leaves.
func (d *Daemon) recordConnection(key plugin.Key, c egress.Connection) error {
	rec := audit.Record{
		Time: c.Time, Tenant: key.Tenant, Plugin: key.ID, Actor: networkActor(key), Action: networkAction + string(c.Phase),
		Target: destination(c), Outcome: outcomeAllowed, Code: string(c.Code),
		DurationMicros: c.Duration.Microseconds(), Details: connectionDetails(c),
	}
	if !c.Allowed { // also of one that was opened and sent no TLS, or for another name
		rec.Outcome = outcomeDenied
	}
	if len(c.Secrets) == 0 {
		return d.note(context.Background(), rec)
	}
	if err := d.audit.WriteSync(context.Background(), rec); err != nil {
		return errUnrecorded(err)
	}
	return nil
}

// connectionOf is a connection as the API shows it.
func connectionOf(key plugin.Key, c egress.Connection) v1.Connection {
	out := v1.Connection{
		Time: c.Time, Tenant: key.Tenant, Plugin: key.ID, Phase: string(c.Phase), Host: plugin.Printable(c.Host, 256), Port: c.Port,
		SNI: plugin.Printable(c.SNI, 256), Allowed: c.Allowed, Code: string(c.Code), Detail: c.Detail, Rule: c.Rule,
		BytesUp: c.BytesUp, BytesDown: c.BytesDown, DurationMillis: c.Duration.Milliseconds(),
		Method: c.Method, Path: c.Path, Status: c.Status, Secrets: c.Secrets,
	}
	if c.Count > 1 {
		out.Count = c.Count
	}
	if c.Address.IsValid() {
		out.Address = c.Address.String()
	}
	return out
}

// networkActor is who connects: npm, while it installs, is no plugin.
func networkActor(key plugin.Key) string {
	if key.ID == "" {
		return theDaemon
	}
	return "plugin:" + key.ID
}

// wishNetwork notes what was denied for want of a grant as a request and returns
// the command that would grant it. Of a name that was only looked up the port is not known: the
// request is for the usual one, unless the plugin's runner tells the port.
func (d *Daemon) wishNetwork(key plugin.Key, c egress.Connection) string {
	ask, ok := askFor(d.grantedTo(key), v1.Connection{
		Phase: string(c.Phase), Code: string(c.Code), Host: c.Host, Port: c.Port, Method: c.Method, Path: c.Path,
	})
	if !ok {
		return ""
	}
	if c.Port != 0 || !d.learning.on(key) {
		d.wish(key, ask)
	}
	return policy.Command(key, ask)
}

// usualPort is what is asked for where only a name was looked up.
const usualPort = 443

// grantedTo is what a plugin may do apart from what config.json takes away
// again, which no grant changes.
func (d *Daemon) grantedTo(key plugin.Key) policy.Effective {
	grants := policy.Merge(d.authority.Grants(key), d.authority.RunGrants(key))
	return policy.Resolve(time.Now(), grants, policy.Narrowing{}, policy.Limits{})
}

// askFor returns what would have let a connection or request pass that was
// denied for want of a grant. There is nothing to ask for what is granted by
// now, or narrowed away.
func askFor(granted policy.Effective, c v1.Connection) (policy.Ask, bool) {
	switch {
	case c.Phase == string(egress.PhaseDenied) && c.Code == string(link.NotGranted):
		ask, err := policy.Tried(c.Host, cmp.Or(c.Port, usualPort))
		// An error is that of a name that cannot be granted.
		return ask, err == nil && !slices.ContainsFunc(granted.Granted, func(g policy.Grant) bool { return g.Covers(ask) })
	case c.Phase == string(egress.PhaseRequest) && c.Code == string(link.RequestRefused):
		i := slices.IndexFunc(granted.Network, func(n policy.NetworkRule) bool { return n.Host == c.Host && n.Port == c.Port })
		if i < 0 { // a rule for the name itself counts before a wildcard
			i = slices.IndexFunc(granted.Network, func(n policy.NetworkRule) bool { return n.Matches(c.Host, c.Port) })
		}
		if i < 0 {
			return policy.Ask{}, false
		}
		ask, err := policy.TriedRequest(granted.Network[i], c.Method, c.Path)
		return ask, err == nil
	}
	return policy.Ask{}, false
}

func destination(c egress.Connection) string {
	if c.Port == 0 {
		return c.Host
	}
	return net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port)))
}

// connectionDetail is what the audit log keeps of a connection.
type connectionDetail struct {
	Address string   `json:"address,omitempty"`
	SNI     string   `json:"sni,omitempty"`
	Rule    string   `json:"rule,omitempty"`
	Up      int64    `json:"bytesUp,omitempty"`
	Down    int64    `json:"bytesDown,omitempty"`
	Count   int      `json:"count,omitempty"`
	Detail  string   `json:"detail,omitempty"`
	Method  string   `json:"method,omitempty"`
	Path    string   `json:"path,omitempty"`
	Status  int      `json:"status,omitempty"`
	Secrets []string `json:"secrets,omitempty"`
}

func connectionDetails(c egress.Connection) connectionDetail {
	out := connectionDetail{
		SNI: c.SNI, Rule: c.Rule, Up: c.BytesUp, Down: c.BytesDown, Detail: c.Detail,
		Method: c.Method, Path: c.Path, Status: c.Status, Secrets: c.Secrets,
	}
	if c.Address.IsValid() {
		out.Address = c.Address.String()
	}
	if c.Count > 1 {
		out.Count = c.Count
	}
	return out
}
