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

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

// Rule grants one destination.
type Rule struct {
	// Host is a DNS name in its canonical form: ASCII, lower case, without a
	// final dot. "localhost", "127.0.0.1" and "::1" mean the host's loopback
	// and need AllowNonPublic.
	Host string
	Port uint16
	// Plaintext lets other bytes than TLS for Host pass.
	Plaintext bool
	// Allow names address ranges that the host may resolve to on top of public
	// addresses: a company's 10.0.0.0/8, or an address of this machine. Never
	// loopback, link-local, multicast, unspecified or cloud metadata.
	Allow []netip.Prefix
	// AllowNonPublic lets the host resolve to any private or special-use
	// address, with the same exceptions and without this machine's own. It is
	// for the npm registry that the operator configured.
	AllowNonPublic bool
}

// ParseRule reads "host:port". The host may be written in any case and in
// Unicode; the rule holds it in ASCII. The rule is valid and allows public
// addresses and TLS only.
func ParseRule(text string) (Rule, error) {
	host, portText, err := splitRule(text)
	if err != nil {
		return Rule{}, err
	}
	port, err := link.ParsePort(portText)
	if err != nil {
		return Rule{}, err
	}
	host, err = canonicalHost(host)
	if err != nil {
		return Rule{}, err
	}
	rule := Rule{Host: host, Port: port}
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
	host, err := canonicalHost(r.Host)
	if err != nil {
		return err
	}
	if host != r.Host {
		return invalid("cannot grant %q: write it as %q", r.Host, host)
	}
	if r.loopback() && !r.AllowNonPublic {
		return invalid("cannot grant %q: only a registry may be this machine itself", r.Host)
	}
	if !r.loopback() && !strings.Contains(host, ".") && !r.AllowNonPublic && len(r.Allow) == 0 {
		return invalid("cannot grant %q: a name without a dot needs an allowed address range", r.Host)
	}
	for _, p := range r.Allow {
		if !p.IsValid() || p != p.Masked() {
			return invalid("cannot allow %s for %q: write a range with its host bits zero", p, r.Host)
		}
		if class := classify(p.Addr()); class.never && class.prefix.Bits() <= p.Bits() {
			return invalid("cannot allow %s for %q: %s addresses are never reached", p, r.Host, class.name)
		}
	}
	return nil
}

// Grant returns what the inside of the container is told of the rule.
func (r Rule) Grant() link.Grant { return link.Grant{Host: r.Host, Port: r.Port} }

// loopback says that the rule names this machine's loopback.
func (r Rule) loopback() bool {
	return r.Host == localhost || r.literal().IsValid()
}

// literal returns the loopback address that the rule's host is, if it is one.
func (r Rule) literal() netip.Addr {
	addr, err := netip.ParseAddr(r.Host)
	if err != nil {
		return netip.Addr{}
	}
	return addr
}

func (r Rule) equal(other Rule) bool {
	return r.Host == other.Host && r.Port == other.Port && r.Plaintext == other.Plaintext &&
		r.AllowNonPublic == other.AllowNonPublic && slices.Equal(r.Allow, other.Allow)
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

func canonicalHost(host string) (string, error) {
	if strings.Contains(host, "*") {
		return "", invalid("cannot grant %q: wildcards are not supported, name each host", host)
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
