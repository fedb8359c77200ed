package egress

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// maxRequestRules bounds the request rules of one rule.
	maxRequestRules = 256
	// maxRequestRule is the longest request rule, in bytes.
	maxRequestRule = 512
)

// requestPattern is a request rule: no character of its path has to be, or
// can be, written in another way.
var requestPattern = regexp.MustCompile(`^(\*|[A-Z]{1,16}) (/[A-Za-z0-9._~!$&'()+,;=:@/-]*\*?)$`)

// RequestRule says which requests pass.
type RequestRule struct {
	Method string // in capitals; "*" is any
	// Path is compared with the path as it was sent, without the query:
	// exactly, or as a prefix when it ends in "*".
	Path string
}

// ParseRequestRule reads a method, a space and a path: "GET /v1/*", "* /health".
// Its error is InvalidArgument.
func ParseRequestRule(text string) (RequestRule, error) {
	parts := requestPattern.FindStringSubmatch(text)
	if parts == nil || len(text) > maxRequestRule {
		return RequestRule{}, invalid(`cannot read %.80q as a request rule: write a method in capitals (or "*"), a space and a path that may end in "*", for example "GET /v1/*"`, text)
	}
	if path := strings.TrimSuffix(parts[2], "*"); ambiguous(path) {
		return RequestRule{}, invalid("cannot take the request rule %.80q: its path has dots or empty parts", text)
	}
	return RequestRule{Method: parts[1], Path: parts[2]}, nil
}

// String returns the rule as ParseRequestRule reads it.
func (r RequestRule) String() string { return r.Method + " " + r.Path }

func (r RequestRule) validate() error {
	again, err := ParseRequestRule(r.String())
	if err == nil && again != r {
		return invalid("cannot read %.80q as a request rule", r)
	}
	return err
}

func (r RequestRule) matches(method, path string) bool {
	if r.Method != "*" && r.Method != method {
		return false
	}
	prefix, wild := strings.CutSuffix(r.Path, "*")
	return path == r.Path || wild && strings.HasPrefix(path, prefix)
}

// allowsRequest says that a request may be sent: one of the rules matches, or
// there are none.
func (r Rule) allowsRequest(method, path string) bool {
	return len(r.Requests) == 0 || slices.ContainsFunc(r.Requests, func(q RequestRule) bool { return q.matches(method, path) })
}

// ambiguous says that a server may take a path for another one: it has
// something in it that some servers decode, fold or cut off before they look
// at it. It is the path as it was sent.
func ambiguous(path string) bool {
	for range 3 { // some decode twice
		if oddPath(path) {
			return true
		}
		decoded, err := url.PathUnescape(path)
		if err != nil || !utf8.ValidString(decoded) {
			return true
		}
		if decoded == path {
			return false
		}
		if strings.Count(decoded, "/") != strings.Count(path, "/") {
			return true
		}
		path = decoded
	}
	return true
}

// oddPath looks for what is ambiguous in a path as it stands.
func oddPath(path string) bool {
	if strings.Contains(path, "//") || strings.IndexFunc(path, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\\' }) >= 0 {
		return true
	}
	return slices.ContainsFunc(strings.Split(path, "/"), func(part string) bool {
		name := part
		if i := strings.IndexAny(part, ";?#"); i >= 0 {
			name = part[:i] // some cut that off first
		}
		// Some cut off dots and blanks at the end, too.
		return name != "" && strings.Trim(name, ". ") == "" || strings.HasPrefix(part, ";")
	})
}

// overrides are headers by which some servers take a request for one of
// another method or path, as plainHeader spells them.
var overrides = []string{
	"X-HTTP-METHOD", "X-HTTP-METHOD-OVERRIDE", "X-METHOD-OVERRIDE", "X-ORIGINAL-METHOD", "X-FORWARDED-METHOD",
	"X-ORIGINAL-URL", "X-ORIGINAL-URI", "X-ORIGINAL-PATH", "X-REWRITE-URL", "X-REWRITE-URI",
	"X-FORWARDED-URI", "X-FORWARDED-URL", "X-FORWARDED-PATH", "X-FORWARDED-PREFIX",
}

// override returns one such header of a request.
func override(header http.Header) (name string, found bool) {
	for name := range header {
		if slices.Contains(overrides, plainHeader(name)) {
			return name, true
		}
	}
	return "", false
}

// otherHosts are headers by which some servers take a request for one to
// another host, as plainHeader spells them.
var otherHosts = []string{"X-FORWARDED-HOST", "X-FORWARDED-SERVER", "X-ORIGINAL-HOST", "X-HTTP-HOST-OVERRIDE", "X-HOST"}

// otherHost returns a host other than the own one, by such a header or by the
// standard's (RFC 7239).
func otherHost(header http.Header, own func(host string) bool) (host string, found bool) {
	for name, values := range header {
		switch plain := plainHeader(name); {
		case slices.Contains(otherHosts, plain):
			if i := slices.IndexFunc(values, func(v string) bool { return !own(v) }); i >= 0 {
				return values[i], true
			}
		case plain == "FORWARDED":
			if i := slices.IndexFunc(values, func(v string) bool { return strings.Contains(strings.ToLower(v), "host") }); i >= 0 {
				return values[i], true
			}
		}
	}
	return "", false
}

// plainHeader is a header's name as servers see it that hand headers on as
// variables, as CGI does: X_Key and X-Key are one.
func plainHeader(name string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z':
			return c - 'a' + 'A'
		case c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
			return c
		}
		return '-'
	}, name)
}
