package egress

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

// Rule grants one destination, or with a wildcard several.
type Rule struct {
	// Host is a DNS name in its canonical form: ASCII, lower case, without a
	// final dot. "*.example.com" is every name with exactly one label more;
	// what lies directly below a public suffix cannot be had that way.
	// "localhost", "127.0.0.1" and "::1" mean the host's loopback and need
	// a range of Allow in it, or AllowNonPublic.
	Host string
	Port uint16
	// Plaintext lets other bytes than TLS for Host pass; where the rule
	// inspects, HTTP without TLS.
	Plaintext bool
	// Inspect ends TLS at the broker, which then sees each request and lets
	// nothing but HTTP for Host pass. Requests or Secrets imply it.
	Inspect bool
	// Requests are those that pass; without any, all do.
	Requests []RequestRule
	// Secrets are put in where their placeholders are found. They need TLS: a
	// rule that allows plaintext has none.
	Secrets []Secret
	// Allow names address ranges that the host may resolve to on top of public
	// addresses: a company's 10.0.0.0/8, or an address of this machine. Ranges
	// of loopback are for the hosts that mean it, and these take no others.
	// Never link-local, multicast, unspecified or cloud metadata.
	Allow []netip.Prefix
	// AllowNonPublic lets the host resolve to any private or special-use
	// address, with the same exceptions and without this machine's own; to
	// loopback only when Host names it. It is for the npm registry that the
	// operator configured.
	AllowNonPublic bool
}

// ParseRule reads "host:port". The host may be written in any case and in
// Unicode; the rule holds it in ASCII. The rule is valid, asks for TLS, and
// allows public addresses and the given ranges.
func ParseRule(text string, allow ...netip.Prefix) (Rule, error) {
	host, portText, err := splitRule(text)
	if err != nil {
		return Rule{}, err
	}
	port, err := link.ParsePort(portText)
	if err != nil {
		return Rule{}, err
	}
	host, err = canonicalPattern(host)
	if err != nil {
		return Rule{}, err
	}
	rule := Rule{Host: host, Port: port, Allow: allow}
	return rule, rule.Validate()
}

func splitRule(text string) (host, port string, err error) {
	const form = "write host:port, for example api.example.com:443"
	if strings.Contains(text, "://") {
		return "", "", invalid("cannot grant %q: leave out the scheme and %s", text, form)
	}
	if strings.ContainsAny(text, "/?#@") {
		return "", "", invalid("cannot grant %q: leave out path, query and user and %s", text, form)
	}
	host, port, splitErr := net.SplitHostPort(text)
	if splitErr != nil || port == "" {
		return "", "", invalid("cannot grant %q: the port is missing or unclear: %s", text, form)
	}
	return host, port, nil
}

// RegistryRule returns the rule for an npm registry from its address, for
// example "https://registry.npmjs.org". It allows non-public addresses, and
// plaintext only for an http address.
func RegistryRule(address string) (Rule, error) {
	u, err := url.Parse(address)
	if err != nil {
		return Rule{}, invalid("cannot read the registry's address: write it as https://host or https://host:port")
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	if port == "" || u.Hostname() == "" {
		return Rule{}, invalid("cannot use %q as a registry: write it as https://host or https://host:port", u.Redacted())
	}
	number, err := link.ParsePort(port)
	if err != nil {
		return Rule{}, err
	}
	host, err := canonicalHost(u.Hostname())
	if err != nil {
		return Rule{}, err
	}
	rule := Rule{Host: host, Port: number, Plaintext: u.Scheme == "http", AllowNonPublic: true}
	return rule, rule.Validate()
}

// Validate says what is wrong with a rule, as InvalidArgument.
func (r Rule) Validate() error {
	if r.Port == 0 {
		return invalid("cannot grant %q without a port from 1 to 65535", r.Host)
	}
	host, err := canonicalPattern(r.Host)
	if err != nil {
		return err
	}
	if host != r.Host {
		return invalid("cannot grant %q: write it as %q", r.Host, host)
	}
	for _, p := range r.Allow {
		if err := r.validateRange(p); err != nil {
			return err
		}
	}
	if err := r.validateInspection(); err != nil {
		return err
	}
	open := r.AllowNonPublic || len(r.Allow) > 0
	switch {
	case r.loopback() && !open:
		return invalid("cannot grant %q without an address range: name one inside 127.0.0.0/8 or ::1/128 to reach this machine itself", r.Host)
	case r.loopback() && !slices.ContainsFunc(r.loopbackAddresses(), r.reachesLoopback):
		return invalid("cannot grant %q: the ranges hold none of its addresses", r.Host)
	case !strings.Contains(host, ".") && !open:
		return invalid("cannot grant %q: a name without a dot needs an allowed address range", r.Host)
	}
	return nil
}

// validateInspection says what is wrong with what is to be done with requests.
func (r Rule) validateInspection() error {
	if len(r.Requests) > maxRequestRules {
		return invalid("cannot take %d request rules for %q: at most %d are possible", len(r.Requests), r.Host, maxRequestRules)
	}
	for _, q := range r.Requests {
		if err := q.validate(); err != nil {
			return err
		}
	}
	if len(r.Secrets) > 0 && r.Plaintext {
		return invalid("cannot send secrets to %q where plaintext is allowed: they need TLS", r.Host)
	}
	return validateSecrets(r.Secrets)
}

// inspects says that the broker looks into the rule's connections.
func (r Rule) inspects() bool { return r.Inspect || len(r.Requests) > 0 || len(r.Secrets) > 0 }

// validateRange says whether p may be allowed for the rule's host.
func (r Rule) validateRange(p netip.Prefix) error {
	if !p.IsValid() || p != p.Masked() {
		return invalid("cannot allow %s for %q: write a range with its host bits zero", p, r.Host)
	}
	if class := classify(p.Addr()); class.reach == reachNever && class.prefix.Bits() <= p.Bits() {
		return invalid("cannot allow %s for %q: %s addresses are never reached", p, r.Host, class.name)
	}
	if r.loopback() && !inLoopback(p) {
		return invalid("cannot allow %s for %q: it is not inside 127.0.0.0/8 or ::1/128", p, r.Host)
	}
	if !r.loopback() && inLoopback(p) {
		return invalid("cannot allow %s for %q: name localhost to reach this machine itself", p, r.Host)
	}
	return nil
}

// Grant returns what the inside of the container is told of the rule.
func (r Rule) Grant() link.Grant { return link.Grant{Host: r.Host, Port: r.Port} }

// loopback says that the rule's host is this machine's loopback.
func (r Rule) loopback() bool { return len(r.loopbackAddresses()) > 0 }

// loopbackAddresses returns what the rule's host stands for if that is this
// machine's loopback. It is never asked of a server: RFC 6761, section 6.3.
func (r Rule) loopbackAddresses() []netip.Addr {
	if r.Host == localhost {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	if addr := r.literal(); addr.IsValid() {
		return []netip.Addr{addr}
	}
	return nil
}

// reachesLoopback says whether the rule reaches a loopback address: its host
// must name loopback, and a range hold the address.
func (r Rule) reachesLoopback(addr netip.Addr) bool {
	return r.loopback() && (r.AllowNonPublic || r.allows(addr))
}

// allows says that one of the rule's ranges holds an address.
func (r Rule) allows(addr netip.Addr) bool {
	return slices.ContainsFunc(r.Allow, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// inLoopback says that a range is loopback and nothing else.
func inLoopback(p netip.Prefix) bool {
	return p.Addr().Is4() && p.Addr().IsLoopback() && p.Bits() >= 8 || p.Addr() == netip.IPv6Loopback() && p.Bits() == 128
}

// literal returns the loopback address that the rule's host is, if it is one.
func (r Rule) literal() netip.Addr {
	addr, err := netip.ParseAddr(r.Host)
	if err != nil {
		return netip.Addr{}
	}
	return addr
}

// sameTerms says that two rules let the same bytes go to the same addresses,
// given the same host and port, and make the same of them.
func (r Rule) sameTerms(other Rule) bool {
	return r.Plaintext == other.Plaintext && r.inspects() == other.inspects() &&
		r.AllowNonPublic == other.AllowNonPublic && slices.Equal(r.Allow, other.Allow) &&
		slices.Equal(r.Requests, other.Requests) && slices.Equal(r.Secrets, other.Secrets)
}

const localhost = "localhost"

// hostProfile turns a name into lower-case ASCII and refuses what is no host
// name: empty, long or odd labels, underscores, broken punycode.
var hostProfile = idna.New(
	idna.MapForLookup(),
	idna.Transitional(false),
	idna.StrictDomainName(true),
	idna.ValidateLabels(true),
	idna.CheckHyphens(true),
	idna.CheckJoiners(true),
	idna.BidiRule(),
	idna.VerifyDNSLength(true),
)

// canonicalPattern is canonicalHost that takes a wildcard, too.
func canonicalPattern(host string) (string, error) {
	parent, wild := strings.CutPrefix(host, "*.")
	if !wild {
		return canonicalHost(host)
	}
	parent, err := canonicalHost(parent)
	if err != nil {
		return "", err
	}
	pattern := "*." + parent
	if _, err := netip.ParseAddr(parent); err == nil || !link.ValidName("x."+parent) {
		return "", invalid("cannot grant %q: grant a host name", host)
	}
	// The label "*" is in no list: this is the suffix of a name that the
	// wildcard stands for, whichever it is.
	if suffix, _ := publicsuffix.PublicSuffix(pattern); suffix == parent || suffix == pattern {
		return "", invalid("cannot grant %q: anybody can have a name there, name the host", host)
	}
	return pattern, nil
}

func canonicalHost(host string) (string, error) {
	if strings.Contains(host, "*") {
		return "", invalid("cannot grant %q: a wildcard is one whole label at the front, as in *.example.com", host)
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		if addr != netip.AddrFrom4([4]byte{127, 0, 0, 1}) && addr != netip.IPv6Loopback() {
			return "", invalid("cannot grant the address %q: grant a host name", host)
		}
		return addr.String(), nil
	}
	ascii, err := hostProfile.ToASCII(host)
	if err != nil || strings.HasSuffix(ascii, ".") {
		return "", invalid("cannot grant %q: it is not a host name", host)
	}
	if last := ascii[strings.LastIndexByte(ascii, '.')+1:]; numeric(last) {
		return "", invalid("cannot grant %q: it looks like an address, grant a host name", host)
	}
	return ascii, nil
}

// numeric says that a resolver might take a name with this last label for an
// address: 127.1, 0x7f.1, 2130706433.
func numeric(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrInvalidArgument)...)
}
