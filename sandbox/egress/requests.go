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
		name, _, _ := strings.Cut(part, ";") // some cut parameters off first
		return name == "." || name == ".." || name == "" && part != ""
	})
}

// overrides are headers by which some servers take a request for one of
// another method or path.
var overrides = []string{
	"X-Http-Method", "X-Http-Method-Override", "X-Method-Override",
	"X-Original-Url", "X-Original-Uri", "X-Rewrite-Url", "X-Forwarded-Uri",
}

// override returns the first such header of a request.
func override(header http.Header) (name string, found bool) {
	for _, name := range overrides {
		if _, found := header[name]; found {
			return name, true
		}
	}
	return "", false
}
