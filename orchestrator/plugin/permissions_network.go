package plugin

import (
	"encoding/json"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

// DefaultPort is that of a destination that names none.
const DefaultPort = 443

// Localhost is the only host that means an address of this machine.
const Localhost = "localhost"

const hostExample = `write the name alone, for example "api.example.com"`

var rulePattern = regexp.MustCompile(`^(\*|[A-Z]{1,16}) /[A-Za-z0-9._~!$&'()+,;=:@/-]*\*?$`)

func readNetwork(n node) ([]Network, error) {
	list, err := n.list()
	if err != nil {
		return nil, err
	}
	var out []Network
	owner := map[string]int{} // "host port" -> index in out
	for _, e := range list {
		d, err := readDestination(e)
		if err != nil {
			return nil, err
		}
		same := slices.IndexFunc(out, func(o Network) bool {
			return o.Host == d.Host && o.Plaintext == d.Plaintext && slices.Equal(o.Rules, d.Rules)
		})
		if same < 0 {
			same = len(out)
			out = append(out, Network{Host: d.Host, Rules: d.Rules, Plaintext: d.Plaintext})
		}
		for _, port := range d.Ports {
			key := d.Host + " " + strconv.Itoa(int(port))
			if i, ok := owner[key]; ok && i != same {
				return nil, e.problem("names a host and port that another entry has with other rules").
					hint("name each host and port once")
			}
			owner[key] = same
		}
		out[same].Ports = append(out[same].Ports, d.Ports...)
	}
	for i := range out {
		slices.Sort(out[i].Ports)
		out[i].Ports = slices.Compact(out[i].Ports)
	}
	slices.SortFunc(out, func(a, b Network) int {
		if c := strings.Compare(a.Host, b.Host); c != 0 {
			return c
		}
		return int(a.Ports[0]) - int(b.Ports[0])
	})
	return out, nil
}

func readDestination(n node) (Network, error) {
	fields, err := n.members("host", "ports", "rules", "plaintext")
	if err != nil {
		return Network{}, err
	}
	host, ok := fields["host"]
	if !ok {
		return Network{}, n.problem("names no host").hint(`add "host", for example {"host": "api.example.com"}`)
	}
	d := Network{Ports: []uint16{DefaultPort}}
	text, err := host.text()
	if err != nil {
		return d, err
	}
	if d.Host, err = CanonicalHost(text); err != nil {
		return d, host.refused(err)
	}
	if ports, ok := fields["ports"]; ok {
		if d.Ports, err = readPorts(ports); err != nil {
			return d, err
		}
	}
	if rules, ok := fields["rules"]; ok {
		if d.Rules, err = rules.texts(CheckRequestRule); err != nil {
			return d, err
		}
	}
	if plain, ok := fields["plaintext"]; ok {
		if d.Plaintext, err = plain.boolean(); err != nil {
			return d, err
		}
	}
	return d, nil
}

func readPorts(n node) ([]uint16, error) {
	list, err := n.list()
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, n.problem("is empty").hint("name a port, or leave it out, which means [443]")
	}
	var out []uint16
	for _, e := range list {
		number, ok := e.value.(json.Number)
		if !ok {
			return nil, e.wrongType("a number", "[443]")
		}
		port, err := strconv.ParseUint(number.String(), 10, 16)
		if err != nil || port == 0 {
			return nil, e.problem("is no port").hint("write whole numbers from 1 to 65535")
		}
		out = append(out, uint16(port))
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// CheckRequestRule says whether s is a rule about HTTP requests: a method in
// capitals, or "*", a blank, and a path that may end in "*", which then stands
// for whatever follows. Its error is a *[PermissionError] without a place.
func CheckRequestRule(s string) error {
	path := s[strings.IndexByte(s, ' ')+1:]
	if len(s) > MaxRuleLen || !rulePattern.MatchString(s) || strings.Contains(path, "//") || hasDots(path) {
		return refusal("is no rule", `write a method in capitals (or "*"), a space and a path that may end in "*", for example "GET /v1/*"`)
	}
	return nil
}

func hasDots(path string) bool {
	return slices.ContainsFunc(strings.Split(path, "/"), func(part string) bool {
		part = strings.TrimSuffix(part, "*")
		return part == "." || part == ".."
	})
}

// refusal is an error that has no place yet.
func refusal(problem, hint string) error { return &PermissionError{Problem: problem, Hint: hint} }

// CanonicalHost returns a destination's host as grants spell it: a DNS name in
// lower-case ASCII, or "*." before one, which stands for exactly one label.
// Addresses are refused, and so are wildcards above names that different
// owners share ("*.com", "*.github.io"). Its error is a *[PermissionError]
// without a place.
func CanonicalHost(host string) (string, error) {
	if err := checkHostText(host); err != nil {
		return "", err
	}
	base, wildcard := strings.CutPrefix(host, "*.")
	if strings.Contains(base, "*") {
		return "", refusal("has a wildcard in the wrong place", `a "*" can only be the whole first label, as in "*.example.com"`)
	}
	ascii, err := hostProfile.ToASCII(base)
	if err != nil || ascii == "" || strings.HasSuffix(ascii, ".") {
		return "", refusal("is no host name", hostExample)
	}
	if numeric(ascii[strings.LastIndexByte(ascii, '.')+1:]) {
		return "", refusal("is an address", "addresses cannot be granted: "+hostExample)
	}
	if !wildcard {
		return ascii, nil
	}
	if suffix, _ := publicsuffix.PublicSuffix(ascii); suffix == ascii {
		return "", refusal("is a wildcard over names of many owners", `name the owner's domain, as in "*.example.com"`)
	}
	if len(ascii) > maxNameLen-len("*.") {
		return "", refusal("is too long", hostExample)
	}
	return "*." + ascii, nil
}

const maxNameLen = 253 // of a DNS name, bytes

// checkHostText refuses what is more than a name with an error that says so.
func checkHostText(host string) error {
	_, notAddress := netip.ParseAddr(strings.Trim(host, "[]"))
	switch {
	case host == "":
		return refusal("is empty", hostExample)
	case !utf8.ValidString(host):
		return refusal("is not UTF-8", hostExample)
	case len(host) > 4*maxNameLen:
		return refusal("is too long", hostExample)
	case strings.Contains(host, "://"):
		return refusal("has a scheme", "leave out the scheme: "+hostExample)
	case strings.ContainsAny(host, `/\?#`):
		return refusal("has a path", "leave out the path: "+hostExample)
	case strings.Contains(host, "@"):
		return refusal("has a user", "leave out the user: "+hostExample)
	case notAddress == nil:
		return refusal("is an address", "addresses cannot be granted: "+hostExample)
	case strings.Contains(host, ":"):
		return refusal("has a port", `write the port into "ports": `+hostExample)
	case strings.Contains(host, "_"):
		return refusal("has an underscore", hostExample)
	case strings.HasSuffix(host, "."):
		return refusal("ends in a dot", hostExample)
	case host == "*":
		return refusal("is a wildcard over everything", "name each host: "+hostExample)
	}
	return nil
}

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

// numeric says that a resolver might take a name with this last label for an
// address: 127.1, 0x7f.1, 2130706433.
func numeric(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}
