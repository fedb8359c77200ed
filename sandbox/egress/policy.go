package egress

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

// Policy is a set of rules. The zero value grants nothing.
type Policy struct {
	rules map[link.Grant]*terms
}

// terms are a rule as it applies to one host. They are held by reference:
// formatting what holds a policy does not print the values in it.
type terms struct {
	Rule
	name string // of the rule as it was granted
}

// NewPolicy checks the rules and makes a policy of them. Two rules for one
// destination are refused, since it would not be clear which one holds.
func NewPolicy(rules ...Rule) (Policy, error) {
	if len(rules) > link.MaxGrants {
		return Policy{}, invalid("cannot grant %d destinations: at most %d are possible", len(rules), link.MaxGrants)
	}
	p := Policy{rules: make(map[link.Grant]*terms, len(rules))}
	for _, r := range rules {
		if err := r.Validate(); err != nil {
			return Policy{}, err
		}
		if _, twice := p.rules[r.Grant()]; twice {
			return Policy{}, invalid("cannot grant %s twice", r.Grant())
		}
		r.Allow, r.Requests, r.Secrets = slices.Clone(r.Allow), slices.Clone(r.Requests), slices.Clone(r.Secrets)
		p.rules[r.Grant()] = &terms{Rule: r, name: r.Grant().String()}
	}
	return p, nil
}

// Format implements fmt.Formatter for every verb: the destinations alone.
func (p Policy) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, "grants ", p.Grants()) }

// Grants returns the destinations, sorted.
func (p Policy) Grants() []link.Grant {
	grants := make([]link.Grant, 0, len(p.rules))
	for g := range p.rules {
		grants = append(grants, g)
	}
	slices.SortFunc(grants, func(a, b link.Grant) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Port, b.Port))
	})
	return grants
}

// find returns the terms for a destination, of a rule for exactly that host. A
// rule that names the host wins over a wildcard.
func (p Policy) find(target link.Grant) (*terms, bool) {
	if t, ok := p.rules[target]; ok {
		return t, true
	}
	wildcard, ok := link.Wildcard(target.Host)
	if !ok {
		return nil, false
	}
	t, ok := p.rules[link.Grant{Host: wildcard, Port: target.Port}]
	if !ok {
		return nil, false
	}
	// The container chose the label: it must be a name that could be granted.
	if host, err := canonicalHost(target.Host); err != nil || host != target.Host {
		return nil, false
	}
	own := *t
	own.Host = target.Host
	return &own, true
}

// knows says that host is granted at some port.
func (p Policy) knows(host string) bool {
	wildcard, _ := link.Wildcard(host)
	for g := range p.rules {
		if g.Host == host || g.Host == wildcard {
			return true
		}
	}
	return false
}
