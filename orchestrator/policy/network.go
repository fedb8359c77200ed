package policy

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// NetworkRule is a destination that a plugin may connect to.
type NetworkRule struct {
	Host      string // a name, "*." and a name for one label before it, or "localhost"
	Port      uint16
	Plaintext bool // other bytes than TLS for Host may pass
	// Addresses are the ranges that Host may resolve to on top of public
	// addresses. Of localhost they are all of it.
	Addresses []netip.Prefix
	// Requests are the HTTP requests that may pass, each a method, or "*", and
	// a path that may end in "*"; none are all, and nobody looks at them.
	Requests []string
}

// Matches reports whether the rule is about the host and port.
func (r NetworkRule) Matches(host string, port uint16) bool {
	if r.Port != port {
		return false
	}
	base, wildcard := strings.CutPrefix(r.Host, "*")
	if !wildcard {
		return host == r.Host
	}
	label, ok := strings.CutSuffix(host, base)
	return ok && label != "" && label != "*" && !strings.Contains(label, ".")
}

const (
	plaintext     = "plaintext"
	addressPrefix = "addresses="
	requestPrefix = "rules="
	maxRanges     = 16
)

// needsAddresses reports whether a host only makes sense with the addresses
// it may have: no public name leads there.
func needsAddresses(host string) bool { return !strings.Contains(host, ".") }

func parseNetwork(g *Grant) error {
	rule, err := readRule(g.Target, g.Value)
	if err != nil {
		return err
	}
	if needsAddresses(rule.Host) && len(rule.Addresses) == 0 {
		return refuse(*g, "is no public name", "name its addresses, for example: network "+rule.target()+" addresses="+exampleRange(rule.Host))
	}
	g.Target, g.Value = rule.target(), rule.value()
	return nil
}

func exampleRange(host string) string {
	if host == plugin.Localhost {
		return "127.0.0.1/32"
	}
	return "10.0.0.0/8"
}

// readRule reads the target and the value of a destination.
func readRule(target, value string) (NetworkRule, error) {
	g := Grant{Kind: Network, Target: target, Value: value}
	i := strings.LastIndexByte(target, ':')
	if i < 0 || strings.Contains(target, "://") {
		return NetworkRule{}, refuse(g, "is no destination", "write host:port without a scheme, for example api.example.com:443")
	}
	port, err := strconv.ParseUint(target[i+1:], 10, 16)
	if err != nil || port == 0 {
		return NetworkRule{}, refuse(g, "has no port", "write host:port with a port from 1 to 65535, for example api.example.com:443")
	}
	rule := NetworkRule{Port: uint16(port)}
	if rule.Host, err = plugin.CanonicalHost(target[:i]); err != nil {
		return NetworkRule{}, err
	}
	return rule, rule.readTerms(g, value)
}

// readTerms reads the value of a destination. Paths may hold commas, so that
// the rules come last.
func (r *NetworkRule) readTerms(g Grant, value string) (err error) {
	terms, requests, hasRequests := cutRequests(value)
	if hasRequests {
		if r.Requests, err = readRequests(g, requests); err != nil || terms == "" {
			return err
		}
	}
	if terms == "" {
		return nil
	}
	for part := range strings.SplitSeq(terms, ",") {
		part = strings.TrimSpace(part)
		list, isList := strings.CutPrefix(part, addressPrefix)
		switch {
		case part == plaintext && !r.Plaintext:
			r.Plaintext = true
		case isList && r.Addresses == nil:
			if r.Addresses, err = readRanges(g, r.Host, list); err != nil {
				return err
			}
		default:
			return refuse(g, "says how in a way that is unknown",
				`write "plaintext", "addresses=10.0.0.0/8 192.168.1.0/24" and "rules=GET /v1/* POST /v1/items", those that you need, with commas between and rules= last`)
		}
	}
	return nil
}

// cutRequests splits a value before the rules that it ends with.
func cutRequests(value string) (terms, requests string, found bool) {
	if list, ok := strings.CutPrefix(value, requestPrefix); ok {
		return "", list, true
	}
	for i := range len(value) {
		if value[i] != ',' {
			continue
		}
		if list, ok := strings.CutPrefix(strings.TrimLeft(value[i+1:], " "), requestPrefix); ok {
			return value[:i], list, true
		}
	}
	return value, "", false
}

func readRanges(g Grant, host, list string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range strings.Fields(list) {
		p, err := netip.ParsePrefix(text)
		if err != nil || p.Masked() != p {
			return nil, refuse(g, "names a range that is none", "write ranges with their host bits zero, for example 10.0.0.0/8 or 10.1.2.3/32")
		}
		if reason := rangeProblem(host, p); reason != "" {
			return nil, refuse(g, "names the range "+p.String()+", which "+reason, "name the range of the network that the host is in")
		}
		out = append(out, p)
	}
	if len(out) == 0 || len(out) > maxRanges {
		return nil, refuse(g, "names no ranges, or too many", "write addresses= and up to "+strconv.Itoa(maxRanges)+" ranges with blanks between them")
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out), nil
}

// loopback are the only addresses of localhost, and only its.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// never are ranges that no destination may resolve to.
var never = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("255.255.255.255/32"), netip.MustParsePrefix("100.100.100.200/32"), netip.MustParsePrefix("168.63.129.16/32"),
	netip.MustParsePrefix("192.0.0.192/32"),
	netip.MustParsePrefix("::/96"), netip.MustParsePrefix("::ffff:0:0/96"), netip.MustParsePrefix("::ffff:0:0:0/96"),
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2001::/32"), netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("fec0::/10"), netip.MustParsePrefix("ff00::/8"),
	netip.MustParsePrefix("fd00:ec2::254/128"), netip.MustParsePrefix("fd20:ce::254/128"), netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), netip.MustParsePrefix("fd00:42::42/128"),
}

// The widest ranges: those of the largest private networks.
const (
	widest4 = 8 // 10.0.0.0/8
	widest6 = 7 // fc00::/7
)

// rangeProblem says why a host may not resolve to the range, "" if it may.
func rangeProblem(host string, p netip.Prefix) string {
	within := func(list []netip.Prefix) bool {
		return slices.ContainsFunc(list, func(outer netip.Prefix) bool { return outer.Bits() <= p.Bits() && outer.Overlaps(p) })
	}
	switch isLoopback := within(loopback); {
	case host == plugin.Localhost && !isLoopback:
		return "is not of this machine's loopback"
	case host == plugin.Localhost:
		return ""
	case isLoopback:
		return "is of this machine's loopback, which only localhost may have"
	case within(never):
		return "is never reached (link-local, cloud metadata, multicast or a mapped range)"
	case p.Addr().Is4() && p.Bits() < widest4, p.Addr().Is6() && p.Bits() < widest6:
		return "is wider than a private network"
	}
	return ""
}

func (r NetworkRule) target() string { return r.Host + ":" + strconv.Itoa(int(r.Port)) }

func (r NetworkRule) value() string {
	var parts []string
	if r.Plaintext {
		parts = append(parts, plaintext)
	}
	if len(r.Addresses) > 0 {
		texts := make([]string, len(r.Addresses))
		for i, p := range r.Addresses {
			texts[i] = p.String()
		}
		parts = append(parts, addressPrefix+strings.Join(texts, " "))
	}
	if len(r.Requests) > 0 {
		parts = append(parts, requestPrefix+strings.Join(r.Requests, " "))
	}
	return strings.Join(parts, ",")
}

// covers reports whether all that other allows is allowed by r.
func (r NetworkRule) covers(other NetworkRule) bool {
	if !coverRequests(r.Requests, other.Requests) {
		return false
	}
	if r.Host != other.Host && !r.Matches(other.Host, other.Port) || r.Port != other.Port || other.Plaintext && !r.Plaintext {
		return false
	}
	for _, p := range other.Addresses {
		if !slices.ContainsFunc(r.Addresses, func(q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Overlaps(p) }) {
			return false
		}
	}
	return true
}

func coversNetwork(g Grant, a Ask) bool {
	have, err := readRule(g.Target, g.Value)
	if err != nil {
		return false
	}
	want, err := readRule(a.Target, a.Value)
	return err == nil && have.covers(want)
}

// meet returns what both rules allow; false if that is nothing. The addresses
// are r's.
func (r NetworkRule) meet(other NetworkRule) (NetworkRule, bool) {
	switch {
	case r.Port != other.Port:
		return r, false
	case r.Host == other.Host || other.Matches(r.Host, r.Port):
	case r.Matches(other.Host, other.Port):
		r.Host = other.Host
	default:
		return r, false
	}
	r.Plaintext = r.Plaintext && other.Plaintext
	var some bool
	r.Requests, some = meetRequests(r.Requests, other.Requests)
	return r, some
}

// rulesOf returns the destinations of a manifest, one per host and port.
func rulesOf(list []plugin.Network) []NetworkRule {
	var out []NetworkRule
	for _, n := range list {
		for _, port := range n.Ports {
			out = append(out, NetworkRule{Host: n.Host, Port: port, Plaintext: n.Plaintext, Requests: n.Rules})
		}
	}
	return out
}
