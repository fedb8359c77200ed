package egress

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestParseRequestRule(t *testing.T) {
	good := map[string]RequestRule{
		"GET /v1/*":                        {"GET", "/v1/*"},
		"* /":                              {"*", "/"},
		"* /*":                             {"*", "/*"},
		"M-SEARCH":                         {},
		"POST /v1/messages":                {"POST", "/v1/messages"},
		"PATCH /a~b!$&'()+,=:@c_d/e.f":     {"PATCH", "/a~b!$&'()+,=:@c_d/e.f"},
		"GET /v1/a*":                       {"GET", "/v1/a*"},
		"GET /a...b/..c":                   {"GET", "/a...b/..c"},
		"get /v1":                          {},
		"GET v1":                           {},
		"GET":                              {},
		"":                                 {},
		"/v1":                              {},
		"GET  /v1":                         {},
		"GET /v1 ":                         {},
		"GET /v1/*/x":                      {},
		"GET /v1/**":                       {},
		"GET //v1":                         {},
		"GET /a/../b":                      {},
		"GET /a/..":                        {},
		"GET /a/..*":                       {},
		"GET /a/./b":                       {},
		"GET /a/..;x/b":                    {},
		"GET /a%2fb":                       {},
		"GET /a?b":                         {},
		"GET /a#b":                         {},
		"GET /a\\b":                        {},
		"GET /a\nb":                        {},
		"GET /ä":                           {},
		"G* /":                             {},
		"GET *":                            {},
		"GET https://example.com/":         {},
		"GET /" + strings.Repeat("a", 600): {},
		strings.Repeat("G", 17) + " /":     {},
		"GET /v1/*\n":                      {},
		"GET /v1/*\x00":                    {},
		"GET /" + strings.Repeat("a", 507): {"GET", "/" + strings.Repeat("a", 507)},
	}
	for text, want := range good {
		got, err := ParseRequestRule(text)
		if got != want || (err == nil) != (want != RequestRule{}) || err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("ParseRequestRule(%q) = %+v, %v, want %+v", text, got, err, want)
		}
	}
}

func TestRequestRuleMatches(t *testing.T) {
	tests := []struct {
		rule, method, path string
		want               bool
	}{
		{"GET /v1/*", "GET", "/v1/x", true},
		{"GET /v1/*", "GET", "/v1/", true},
		{"GET /v1/*", "GET", "/v1", false},
		{"GET /v1/*", "GET", "/v10", false},
		{"GET /v1/*", "HEAD", "/v1/x", false},
		{"GET /v1/*", "get", "/v1/x", false},
		{"GET /v1/*", "GET", "/V1/x", false},
		{"GET /v1/*", "GET", "/v1/a%20b", true},
		{"GET /v1/*", "GET", "/%761/x", false}, // as it was sent
		{"GET /v1", "GET", "/v1/", false},
		{"GET /v1", "GET", "/v1", true},
		{"* /v1", "DELETE", "/v1", true},
		{"* /*", "ANY", "/", true},
		{"POST /v1/a*", "POST", "/v1/abc", true},
	}
	for _, tt := range tests {
		rule, err := ParseRequestRule(tt.rule)
		if err != nil {
			t.Fatal(err)
		}
		if got := rule.matches(tt.method, tt.path); got != tt.want {
			t.Errorf("%q matches %s %s: %v, want %v", tt.rule, tt.method, tt.path, got, tt.want)
		}
	}
}

func TestAmbiguous(t *testing.T) {
	for path, want := range map[string]bool{
		"/":                  false,
		"/v1/x":              false,
		"/v1/x/":             false,
		"/v1/a%20b":          false,
		"/v1/%C3%A4":         false,
		"/v1/%3F":            false,
		"/v1/...":            true, // without dots at the end, as some file systems have it
		"/v1/..%20/x":        true,
		"/v1/..%3fx":         true,
		"/v1/..%23/x":        true,
		"/v1/a;b=c":          false,
		"/v1/..a/a..":        false,
		"/..":                true,
		"/v1/../x":           true,
		"/v1/./x":            true,
		"/v1/.":              true,
		"//x":                true,
		"/v1//x":             true,
		"/v1/%2e%2e/x":       true,
		"/v1/%2E./x":         true,
		"/v1/.%2e/x":         true,
		"/v1/%2e/x":          true,
		"/v1%2fx":            true,
		"/v1%2Fx":            true,
		"/v1%5cx":            true,
		`/v1\x`:              true,
		"/v1/%00":            true,
		"/v1/\x00":           true,
		"/v1/%0d%0a":         true,
		"/v1/%252e%252e/x":   true,
		"/v1/%25%32%65/x":    true,
		"/v1/%252fx":         true,
		"/v1/%c0%ae%c0%ae/x": true, // an overlong dot
		"/v1/..;/x":          true,
		"/v1/..;a=b/x":       true,
		"/v1/;/x":            true,
		"/v1/%2e%2e;/x":      true,
		"/v1/%zz":            true,
		"/v1/%":              true,
	} {
		if got := ambiguous(path); got != want {
			t.Errorf("ambiguous(%q) = %v, want %v", path, got, want)
		}
	}
}

// TestAmbiguousMeansThat compares with what a server makes of a path that was
// not refused: the same segments.
func FuzzAmbiguous(f *testing.F) {
	for _, seed := range []string{"/v1/x", "/v1/%2e%2e/x", "/a;b/c", "/%25", "/ä"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if ambiguous(path) {
			return
		}
		decoded := path
		for range 2 {
			var err error
			if decoded, err = url.PathUnescape(decoded); err != nil {
				t.Fatalf("%q cannot be decoded twice", path)
			}
			for _, bad := range []string{"//", "/../", "/./", "\\", "\x00", "\r", "\n", "/..;"} {
				if strings.Contains(decoded+"/", bad) && !strings.HasSuffix(decoded, "/") {
					t.Errorf("%q is %q, which holds %q", path, decoded, bad)
				}
			}
			if strings.Count(decoded, "/") != strings.Count(path, "/") {
				t.Errorf("%q is %q with another number of parts", path, decoded)
			}
		}
	})
}

func FuzzParseRequestRule(f *testing.F) {
	for _, seed := range []string{"GET /v1/*", "* /", "POST /a/../b", "GET /%2e", "get /"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rule, err := ParseRequestRule(text)
		if err != nil {
			if !errdefs.IsInvalidArgument(err) || rule != (RequestRule{}) {
				t.Errorf("ParseRequestRule(%q) = %+v, %v", text, rule, err)
			}
			return
		}
		if rule.String() != text || rule.validate() != nil {
			t.Errorf("ParseRequestRule(%q) = %q", text, rule)
		}
		path := strings.TrimSuffix(rule.Path, "*")
		if u, err := url.Parse("https://h" + path); err != nil || u.EscapedPath() != path || u.Path != path || u.RawQuery != "" {
			t.Errorf("the path of %q is not the one that a server sees: %v", rule, err)
		}
		if !rule.matches(strings.ReplaceAll(rule.Method, "*", "GET"), path) {
			t.Errorf("%q does not match its own path", rule)
		}
	})
}

func TestOverride(t *testing.T) {
	if name, found := override(http.Header{"X-Api-Key": {"x"}}); found {
		t.Errorf("%s is an override", name)
	}
	for _, name := range []string{"x-http-method-override", "X_HTTP_Method_Override", "x.http.method", "X-Original_URL"} {
		h := http.Header{}
		h.Set(name, "")
		if _, found := override(h); !found {
			t.Errorf("%s was not seen", name)
		}
	}
}

func TestOtherHost(t *testing.T) {
	own := func(host string) bool { return host == "own.test" }
	for _, tt := range []struct {
		name  string
		value string
		want  bool
	}{
		{"X-Forwarded-Host", "own.test", false},
		{"X-Forwarded-For", "192.0.2.1", false},
		{"Forwarded", "for=192.0.2.1;proto=https", false},
		{"X-Forwarded-Host", "evil.test", true},
		{"X-Forwarded-Host", "own.test, evil.test", true},
		{"x_forwarded_host", "evil.test", true},
		{"X-Host", "evil.test", true},
		{"Forwarded", "for=192.0.2.1;Host=evil.test", true},
	} {
		h := http.Header{}
		h.Add(tt.name, "own.test")
		h.Add(tt.name, tt.value)
		if got, found := otherHost(h, own); found != tt.want || found && got != tt.value {
			t.Errorf("%s: %s: another host is %q, %v", tt.name, tt.value, got, found)
		}
	}
}
