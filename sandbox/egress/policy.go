package egress

import (
	"cmp"
	"slices"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

// Policy is a set of rules. The zero value grants nothing.
type Policy struct {
	rules map[link.Grant]Rule
}

// NewPolicy checks the rules and makes a policy of them. Two rules for one
// destination are refused, since it would not be clear which one holds.
func NewPolicy(rules ...Rule) (Policy, error) {
	if len(rules) > link.MaxGrants {
		return Policy{}, invalid("cannot grant %d destinations: at most %d are possible", len(rules), link.MaxGrants)
	}
	p := Policy{rules: make(map[link.Grant]Rule, len(rules))}
	for _, r := range rules {
		if err := r.Validate(); err != nil {
			return Policy{}, err
		}
		if _, twice := p.rules[r.Grant()]; twice {
			return Policy{}, invalid("cannot grant %s twice", r.Grant())
		}
		r.Allow = slices.Clone(r.Allow)
		p.rules[r.Grant()] = r
	}
	return p, nil
}

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

// rule returns the rule for a destination, as a rule for exactly that host. A
// rule that names the host wins over a wildcard.
func (p Policy) rule(target link.Grant) (Rule, bool) {
	if r, ok := p.rules[target]; ok {
		return r, true
	}
	wildcard, ok := link.Wildcard(target.Host)
	if !ok {
		return Rule{}, false
	}
	r, ok := p.rules[link.Grant{Host: wildcard, Port: target.Port}]
	if !ok {
		return Rule{}, false
	}
	// The container chose the label: it must be a name that could be granted.
	if host, err := canonicalHost(target.Host); err != nil || host != target.Host {
		return Rule{}, false
	}
	r.Host = target.Host
	return r, true
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
