package egress

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

// prefixes lets cmp compare address ranges.
var prefixes = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

func TestParseRule(t *testing.T) {
	tests := []struct {
		text    string
		want    Rule
		problem string // part of the message; empty: valid
	}{
		{"api.example.com:443", Rule{Host: "api.example.com", Port: 443}, ""},
		{"API.Example.COM:8443", Rule{Host: "api.example.com", Port: 8443}, ""},
		{"bücher.example:443", Rule{Host: "xn--bcher-kva.example", Port: 443}, ""},
		{"xn--bcher-kva.example:443", Rule{Host: "xn--bcher-kva.example", Port: 443}, ""},
		{"https://api.example.com", Rule{}, "leave out the scheme"},
		{"api.example.com/v1:443", Rule{}, "leave out path"},
		{"user@api.example.com:443", Rule{}, "leave out path"},
		{"api.example.com", Rule{}, "the port is missing"},
		{"api.example.com:", Rule{}, "the port is missing"},
		{"api.example.com:https", Rule{}, "as a port"},
		{"api.example.com:0", Rule{}, "as a port"},
		{"api.example.com:65536", Rule{}, "as a port"},
		{"*.Example.com:443", Rule{Host: "*.example.com", Port: 443}, ""},
		{"*.bücher.example:443", Rule{Host: "*.xn--bcher-kva.example", Port: 443}, ""},
		{"*.corp.example:443", Rule{Host: "*.corp.example", Port: 443}, ""},
		{"*.example.co.uk:443", Rule{Host: "*.example.co.uk", Port: 443}, ""},
		{"*.amazonaws.com:443", Rule{Host: "*.amazonaws.com", Port: 443}, ""},
		{"*.www.ck:443", Rule{Host: "*.www.ck", Port: 443}, ""}, // an exception of the list
		{"*:443", Rule{}, "one whole label"},
		{"**.example.com:443", Rule{}, "one whole label"},
		{"a.*.example.com:443", Rule{}, "one whole label"},
		{"*.*.example.com:443", Rule{}, "one whole label"},
		{"a*.example.com:443", Rule{}, "one whole label"},
		{"*a.example.com:443", Rule{}, "one whole label"},
		{"example.*:443", Rule{}, "one whole label"},
		{"*.com:443", Rule{}, "anybody"},
		{"*.test:443", Rule{}, "anybody"},
		{"*.intranet:443", Rule{}, "anybody"},
		{"*.localhost:443", Rule{}, "anybody"},
		{"*.co.uk:443", Rule{}, "anybody"},
		{"*.github.io:443", Rule{}, "anybody"},
		{"*.ck:443", Rule{}, "anybody"},
		{"*.foo.ck:443", Rule{}, "anybody"},
		{"*.kawasaki.jp:443", Rule{}, "anybody"}, // every name there is a suffix
		{"*.127.0.0.1:443", Rule{}, "grant a host name"},
		{"*.10.0.0.1:443", Rule{}, "address"},
		{"*.0x7f:443", Rule{}, "looks like an address"},
		{"*.:443", Rule{}, "not a host name"},
		{"*." + strings.Repeat("a.", 124) + "c:443", Rule{Host: "*." + strings.Repeat("a.", 124) + "c", Port: 443}, ""},
		{"*." + strings.Repeat("a.", 125) + "com:443", Rule{}, "grant a host name"},
		{"93.184.216.34:443", Rule{}, "address"},
		{"[2606:2800:220:1::1]:443", Rule{}, "address"},
		{"[::ffff:127.0.0.1]:443", Rule{}, "address"},
		{"2130706433:443", Rule{}, "looks like an address"},
		{"127.1:443", Rule{}, "looks like an address"},
		{"a.0x7f:443", Rule{}, "looks like an address"},
		{"localhost:4873", Rule{}, "without an address range"},
		{"127.0.0.1:4873", Rule{}, "without an address range"},
		{"[::1]:4873", Rule{}, "without an address range"},
		{"intranet:443", Rule{}, "without a dot"},
		{"api.example.com.:443", Rule{}, "not a host name"},
		{"api..example.com:443", Rule{}, "not a host name"},
		{".example.com:443", Rule{}, "not a host name"},
		{"-a.example.com:443", Rule{}, "not a host name"},
		{"a_b.example.com:443", Rule{}, "not a host name"},
		{"a b.example.com:443", Rule{}, "not a host name"},
		{"a\nb.example.com:443", Rule{}, "not a host name"},
		{"xn--zzzzzz.example:443", Rule{}, "not a host name"},
		{strings.Repeat("a", 64) + ".example:443", Rule{}, "not a host name"},
		{strings.Repeat("a.", 127) + "com:443", Rule{}, "not a host name"},
		{":443", Rule{}, "not a host name"},
		{"", Rule{}, "the port is missing"},
	}
	for _, tt := range tests {
		got, err := ParseRule(tt.text)
		if tt.problem == "" {
			if err != nil || !cmp.Equal(got, tt.want, prefixes) {
				t.Errorf("ParseRule(%q) = %+v, %v, want %+v", tt.text, got, err, tt.want)
			}
			continue
		}
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tt.problem) {
			t.Errorf("ParseRule(%q) = %v, want InvalidArgument with %q", tt.text, err, tt.problem)
		}
	}
}

func TestRegistryRule(t *testing.T) {
	tests := []struct {
		address string
		want    Rule
		ok      bool
	}{
		{"https://registry.npmjs.org", Rule{Host: "registry.npmjs.org", Port: 443, AllowNonPublic: true}, true},
		{"https://npm.corp.example:8443/repo/npm/", Rule{Host: "npm.corp.example", Port: 8443, AllowNonPublic: true}, true},
		{"http://verdaccio:4873/", Rule{Host: "verdaccio", Port: 4873, Plaintext: true, AllowNonPublic: true}, true},
		{"http://localhost:4873", Rule{Host: "localhost", Port: 4873, Plaintext: true, AllowNonPublic: true}, true},
		{"http://127.0.0.1", Rule{Host: "127.0.0.1", Port: 80, Plaintext: true, AllowNonPublic: true}, true},
		{"http://[::1]:4873", Rule{Host: "::1", Port: 4873, Plaintext: true, AllowNonPublic: true}, true},
		{"https://user:secret@registry.npmjs.org/", Rule{Host: "registry.npmjs.org", Port: 443, AllowNonPublic: true}, true},
		{"http://10.1.2.3:4873", Rule{}, false},
		{"http://169.254.169.254", Rule{}, false},
		{"ftp://registry.npmjs.org", Rule{}, false},
		{"registry.npmjs.org", Rule{}, false},
		{"https://", Rule{}, false},
		{"https://a:b:c", Rule{}, false},
		{"https://registry.npmjs.org:0", Rule{}, false},
		{"https://*.npmjs.org", Rule{}, false},
	}
	for _, tt := range tests {
		got, err := RegistryRule(tt.address)
		if (err == nil) != tt.ok || tt.ok && !cmp.Equal(got, tt.want, prefixes) {
			t.Errorf("RegistryRule(%q) = %+v, %v, want %+v", tt.address, got, err, tt.want)
		}
		if err != nil && (!errdefs.IsInvalidArgument(err) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("RegistryRule(%q): %v", tt.address, err)
		}
	}
}

func TestRuleValidate(t *testing.T) {
	allow := func(ranges ...string) Rule {
		r := Rule{Host: "npm.corp.example", Port: 443}
		for _, text := range ranges {
			r.Allow = append(r.Allow, netip.MustParsePrefix(text))
		}
		return r
	}
	at := func(host string, r Rule) Rule {
		r.Host = host
		return r
	}
	tests := map[string]struct {
		rule Rule
		ok   bool
	}{
		"localhost by range":           {at("localhost", allow("127.0.0.0/8")), true},
		"localhost by ::1":             {at("localhost", allow("::1/128")), true},
		"localhost by both":            {at("localhost", allow("127.0.0.1/32", "::1/128")), true},
		"localhost by another address": {at("localhost", allow("127.0.0.2/32")), false},
		"localhost by private range":   {at("localhost", allow("127.0.0.0/8", "10.0.0.0/8")), false},
		"localhost by everything":      {at("localhost", allow("0.0.0.0/0")), false},
		"localhost by wide range":      {at("localhost", allow("126.0.0.0/7")), false},
		"localhost by mapped":          {at("localhost", allow("::ffff:127.0.0.0/104")), false},
		"localhost without range":      {at("localhost", Rule{Port: 1}), false},
		"127.0.0.1 by range":           {at("127.0.0.1", allow("127.0.0.0/8")), true},
		"127.0.0.1 by ::1":             {at("127.0.0.1", allow("::1/128")), false},
		"::1 by range":                 {at("::1", allow("::1/128")), true},
		"wildcard with range":          {at("*.corp.example", allow("10.0.0.0/8", "100.64.0.0/10")), true},
		"wildcard with loopback":       {at("*.corp.example", allow("127.0.0.0/8")), false},
		"wildcard of a suffix":         {at("*.co.uk", allow("10.0.0.0/8")), false},
		"multicast":                    {allow("224.0.0.0/4"), false},
		"CGNAT and special use":        {allow("100.64.0.0/10", "198.18.0.0/15", "240.0.0.0/4", "fc00::/7"), true},
		"private range":                {allow("10.0.0.0/8"), true},
		"everything":                   {allow("0.0.0.0/0", "::/0"), true},
		"host bits":                    {allow("10.0.0.1/8"), false},
		"loopback range":               {allow("127.0.0.0/8"), false},
		"one loopback address":         {allow("127.0.0.1/32"), false},
		"link-local":                   {allow("169.254.0.0/16"), false},
		"metadata":                     {allow("10.0.0.0/8", "fd00:ec2::254/128"), false},
		"mapped":                       {allow("::ffff:0:0/96"), false},
		"invalid range":                {Rule{Host: "a.example", Port: 1, Allow: []netip.Prefix{{}}}, false},
		"upper case":                   {Rule{Host: "A.example", Port: 1}, false},
		"Unicode":                      {Rule{Host: "bücher.example", Port: 1}, false},
		"no port":                      {Rule{Host: "a.example"}, false},
		"no host":                      {Rule{Port: 1}, false},
		"short with range":             {Rule{Host: "npm", Port: 1, Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, true},
		"zero":                         {Rule{}, false},
	}
	for name, tt := range tests {
		err := tt.rule.Validate()
		if (err == nil) != tt.ok || err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: Validate() = %v, want ok %v", name, err, tt.ok)
		}
	}
}

func TestNewPolicy(t *testing.T) {
	a, b := mustRule(t, "b.example:443"), mustRule(t, "a.example:443")
	p, err := NewPolicy(a, b, mustRule(t, "a.example:80"))
	if err != nil {
		t.Fatal(err)
	}
	want := []link.Grant{{Host: "a.example", Port: 80}, {Host: "a.example", Port: 443}, {Host: "b.example", Port: 443}}
	if got := p.Grants(); !cmp.Equal(got, want) {
		t.Errorf("Grants() = %v, want %v", got, want)
	}
	if got := (Policy{}).Grants(); len(got) != 0 {
		t.Errorf("the zero policy grants %v", got)
	}
	if _, err := NewPolicy(a, a); !errdefs.IsInvalidArgument(err) {
		t.Errorf("twice the same destination: %v", err)
	}
	if _, err := NewPolicy(Rule{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("an invalid rule: %v", err)
	}
	var many []Rule
	for i := range link.MaxGrants + 1 {
		many = append(many, mustRule(t, "h"+strconv.Itoa(i)+".example:443"))
	}
	if _, err := NewPolicy(many[1:]...); err != nil {
		t.Errorf("%d rules: %v", link.MaxGrants, err)
	}
	if _, err := NewPolicy(many...); !errdefs.IsInvalidArgument(err) {
		t.Errorf("%d rules: %v", len(many), err)
	}
}

func TestParseRuleWithRanges(t *testing.T) {
	ranges := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	got, err := ParseRule("localhost:8080", ranges...)
	if want := (Rule{Host: "localhost", Port: 8080, Allow: ranges}); err != nil || !cmp.Equal(got, want, prefixes) {
		t.Errorf("ParseRule = %+v, %v, want %+v", got, err, want)
	}
}

func TestPolicyRule(t *testing.T) {
	p, err := NewPolicy(
		mustRule(t, "*.example.com:443"), mustRule(t, "*.example.com:80"), mustRule(t, "*.b.example.com:443"),
		Rule{Host: "a.example.com", Port: 443, Plaintext: true})
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		want Rule
		ok   bool
	}{
		"a.example.com:443":     {Rule{Host: "a.example.com", Port: 443, Plaintext: true}, true}, // the exact rule wins
		"a.example.com:80":      {Rule{Host: "a.example.com", Port: 80}, true},
		"b.example.com:443":     {Rule{Host: "b.example.com", Port: 443}, true},
		"x.b.example.com:443":   {Rule{Host: "x.b.example.com", Port: 443}, true},
		"b.example.com:8443":    {},
		"example.com:443":       {},
		"x.y.b.example.com:443": {},
		"x.a.example.com:443":   {},
		"aexample.com:443":      {},
		".example.com:443":      {},
		"a.example.com.:443":    {},
		"-a.example.com:443":    {}, // the label must be one that could be granted
		"a_b.example.com:443":   {},
		"xn--zz.example.com:1":  {},
		"a.example.com.evil:1":  {},
	}
	for text, tt := range tests {
		target, err := link.ParseTarget(text)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := ruleFor(p, target)
		if ok != tt.ok || !cmp.Equal(got, tt.want, prefixes) {
			t.Errorf("rule(%s) = %+v, %v, want %+v", text, got, ok, tt.want)
		}
	}
}

func ruleFor(p Policy, target link.Grant) (Rule, bool) {
	t, ok := p.find(target)
	if !ok {
		return Rule{}, false
	}
	return t.Rule, true
}

// FuzzWildcard compares the match of a wildcard with the sentence that
// describes it: exactly one label more, and a name that could be granted.
func FuzzWildcard(f *testing.F) {
	for _, seed := range []string{"a.example.com", "example.com", "a.b.example.com", "*.example.com", ".example.com", "a_.example.com", "A.example.com"} {
		f.Add(seed)
	}
	policy, err := NewPolicy(Rule{Host: "*.example.com", Port: 443})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, host string) {
		target, err := link.ParseTarget(net.JoinHostPort(host, "443"))
		if err != nil {
			return // the broker never asks
		}
		labels := strings.Split(target.Host, ".")
		exact, err := ParseRule(target.String())
		want := len(labels) == 3 && labels[1] == "example" && labels[2] == "com" && err == nil && exact.Host == target.Host
		got, ok := ruleFor(policy, target)
		if ok != want || ok && got.Host != target.Host {
			t.Errorf("%q is reached as %+v, %v, want %v", host, got, ok, want)
		}
	})
}

func mustRule(t testing.TB, text string) Rule {
	t.Helper()
	r, err := ParseRule(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func FuzzParseRule(f *testing.F) {
	for _, seed := range []string{"api.example.com:443", "bücher.example:443", "127.1:80", "[::1]:1", "*.a:1", "xn--a:1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rule, err := ParseRule(text)
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("ParseRule(%q): %v is not InvalidArgument", text, err)
			}
			return
		}
		again, err := ParseRule(rule.Grant().String())
		if err != nil || !cmp.Equal(again, rule, prefixes) {
			t.Errorf("ParseRule(%q) = %+v, which reads as %+v, %v", text, rule, again, err)
		}
		if grant, err := link.ParseGrant(rule.Grant().String()); err != nil || grant != rule.Grant() {
			t.Errorf("the protocol reads %v as %v, %v", rule.Grant(), grant, err)
		}
		if _, err := netip.ParseAddr(rule.Host); err == nil {
			t.Errorf("ParseRule(%q) grants an address", text)
		}
	})
}
