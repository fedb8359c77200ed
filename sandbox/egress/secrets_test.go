package egress

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// TestSecretShowsItsNameAlone formats a secret, and what holds it, in every
// way.
func TestSecretShowsItsNameAlone(t *testing.T) {
	secret := withSecret().Secrets[0]
	policy, err := NewPolicy(withSecret())
	if err != nil {
		t.Fatal(err)
	}
	broker, err := NewBroker(Options{Record: func(Connection) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	broker.SetPolicy(policy)
	authority, err := NewAuthority("the authority")
	if err != nil {
		t.Fatal(err)
	}
	broker.opts.Authority = authority
	pemText, err := authority.MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	key, err := authority.key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	var text, js bytes.Buffer
	for _, v := range []any{secret, &secret, withSecret(), []Rule{withSecret()}, policy, &policy, broker, authority, struct{ p Policy }{policy}} {
		verbs := []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"}
		if _, ok := v.(struct{ p Policy }); ok {
			verbs = verbs[:3]
		}
		for _, verb := range verbs {
			fmt.Fprintf(&text, verb+"\n", v)
		}
		slog.New(slog.NewTextHandler(&text, nil)).Info("message", "value", v)
		slog.New(slog.NewJSONHandler(&js, nil)).Info("message", "value", v)
		if data, err := json.Marshal(v); err == nil {
			js.Write(data)
		}
	}
	all := text.String() + js.String()
	for _, bad := range []string{testValue, fmt.Sprintf("%x", testValue), new(big.Int).SetBytes(key).String(), fmt.Sprintf("%x", key), string(pemText)} {
		if strings.Contains(all, bad) {
			t.Errorf("%q is shown in\n%s", bad, all)
		}
	}
	if !strings.Contains(text.String(), "secret API_KEY") || !strings.Contains(js.String(), "secret API_KEY") || !strings.Contains(all, "authority the authority") {
		t.Errorf("the names are not shown:\n%s", all)
	}
}

func TestSecretValidate(t *testing.T) {
	change := func(f func(*Secret)) []Secret {
		s := withSecret().Secrets[0]
		f(&s)
		return []Secret{s}
	}
	good := withSecret().Secrets[0]
	second := good
	second.Name, second.Placeholder = "OTHER", "ocmt-secret-ffffffffffffffff"
	inside := second
	inside.Placeholder = testPlaceholder[:20]
	holder := second
	holder.Value = "x" + testPlaceholder
	twin := second
	twin.Placeholder = good.Placeholder
	named := second
	named.Name = good.Name
	bad := map[string][]Secret{
		"no name":             change(func(s *Secret) { s.Name = "" }),
		"no place":            change(func(s *Secret) { s.Header = "" }),
		"two places":          change(func(s *Secret) { s.Query = "key" }),
		"bad header":          change(func(s *Secret) { s.Header = "X Api" }),
		"framing header":      change(func(s *Secret) { s.Header = "content-length" }),
		"host header":         change(func(s *Secret) { s.Header = "hOsT" }),
		"bad parameter":       change(func(s *Secret) { s.Header, s.Query = "", "a\nb" }),
		"short placeholder":   change(func(s *Secret) { s.Placeholder = "ocmt-secret-012" }),
		"odd placeholder":     change(func(s *Secret) { s.Placeholder = "ocmt secret 0123456" }),
		"empty":               change(func(s *Secret) { s.Value = "" }),
		"huge":                change(func(s *Secret) { s.Value = strings.Repeat("v", maxSecretValue+1) }),
		"two lines":           change(func(s *Secret) { s.Value = testValue + "\nX-Evil: 1" }),
		"its own placeholder": change(func(s *Secret) { s.Value += testPlaceholder }),
		"same placeholder":    {good, twin},
		"placeholder inside":  {good, inside},
		"other's placeholder": {good, holder},
		"same name":           {good, named},
		"too many":            make([]Secret, maxSecrets+1),
	}
	for name, secrets := range bad {
		rule := Rule{Host: apiHost, Port: 443, Secrets: secrets}
		err := rule.Validate()
		if !errdefs.IsInvalidArgument(err) || strings.Contains(err.Error(), testValue) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, secrets := range map[string][]Secret{
		"one": {good}, "two": {good, second}, "a parameter": change(func(s *Secret) { s.Header, s.Query = "", "key" }),
	} {
		if err := (Rule{Host: apiHost, Port: 443, Secrets: secrets}).Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	plain := withSecret()
	plain.Plaintext = true
	odd := inspected()
	odd.Requests = []RequestRule{{"GET", "/a/../b"}}
	split := inspected()
	split.Requests = []RequestRule{{"GET /a", "/b"}}
	many := inspected()
	many.Requests = make([]RequestRule, maxRequestRules+1)
	for name, rule := range map[string]Rule{"over plaintext": plain, "bad path": odd, "split rule": split, "too many rules": many} {
		if _, err := NewPolicy(rule); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func basicAuth(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func TestFill(t *testing.T) {
	header := func(name, value string) http.Header { return http.Header{name: {value}} }
	in := func(header string) Secret {
		return Secret{Name: "KEY", Placeholder: testPlaceholder, Value: testValue, Header: header}
	}
	parameter := Secret{Name: "KEY", Placeholder: testPlaceholder, Value: "a b&c=d", Query: "key"}
	tests := map[string]struct {
		secret      Secret
		header      http.Header
		query       string
		wantHeader  http.Header
		wantQuery   string
		wantReplace bool
	}{
		"its header":        {in("x-api-key"), header("X-Api-Key", testPlaceholder), "", header("X-Api-Key", testValue), "", true},
		"inside":            {in("Authorization"), header("Authorization", "Bearer "+testPlaceholder), "", header("Authorization", "Bearer "+testValue), "", true},
		"twice":             {in("X-A"), header("X-A", testPlaceholder+","+testPlaceholder), "", header("X-A", testValue+","+testValue), "", true},
		"basic":             {in("Authorization"), header("Authorization", basicAuth("me", testPlaceholder)), "", header("Authorization", basicAuth("me", testValue)), "", true},
		"basic user":        {in("Authorization"), header("Authorization", basicAuth(testPlaceholder, "")), "", header("Authorization", basicAuth(testValue, "")), "", true},
		"basic of another":  {in("Authorization"), header("Authorization", basicAuth("me", "x")), "", header("Authorization", basicAuth("me", "x")), "", false},
		"broken basic":      {in("Authorization"), header("Authorization", "Basic ???"), "", header("Authorization", "Basic ???"), "", false},
		"another header":    {in("X-Api-Key"), header("X-Other", testPlaceholder), "", header("X-Other", testPlaceholder), "", false},
		"not a header":      {in("X-Api-Key"), http.Header{}, "key=" + testPlaceholder, http.Header{}, "key=" + testPlaceholder, false},
		"its parameter":     {parameter, http.Header{}, "a=1;b&key=" + testPlaceholder + "&c=%zz", http.Header{}, "a=1;b&key=a+b%26c%3Dd&c=%zz", true},
		"encoded":           {parameter, http.Header{}, "k%65y=x" + strings.ReplaceAll(testPlaceholder, "-", "%2D"), http.Header{}, "k%65y=xa+b%26c%3Dd", true},
		"another parameter": {parameter, http.Header{}, "q=" + testPlaceholder + "&Key=" + testPlaceholder, http.Header{}, "q=" + testPlaceholder + "&Key=" + testPlaceholder, false},
		"header, not query": {parameter, header("Key", testPlaceholder), "", header("Key", testPlaceholder), "", false},
	}
	for name, tt := range tests {
		r := &http.Request{Header: tt.header, URL: &url.URL{RawQuery: tt.query}}
		names, _ := fill([]Secret{tt.secret}, r)
		if fmt.Sprint(r.Header) != fmt.Sprint(tt.wantHeader) || r.URL.RawQuery != tt.wantQuery || (len(names) == 1) != tt.wantReplace {
			t.Errorf("%s: %v %q %v, want %v %q %v", name, r.Header, r.URL.RawQuery, names, tt.wantHeader, tt.wantQuery, tt.wantReplace)
		}
	}
}

// TestFillTwoIntoOne has user and password as secrets of one header: what the
// host may send back is what went out.
func TestFillTwoIntoOne(t *testing.T) {
	user := Secret{Name: "USER", Placeholder: "ocmt-secret-user-0000", Value: "alice", Header: "Authorization"}
	password := Secret{Name: "PASS", Placeholder: "ocmt-secret-pass-0000", Value: "pa55word", Header: "Authorization"}
	before := basicAuth(user.Placeholder, password.Placeholder)
	r := &http.Request{Header: http.Header{"Authorization": {before}}, URL: &url.URL{}}
	names, echoes := fill([]Secret{user, password}, r)
	after := basicAuth("alice", "pa55word")
	if got := r.Header.Get("Authorization"); got != after || len(names) != 2 {
		t.Errorf("filled %q, %v", got, names)
	}
	if got := newRedactor(echoes).text(after); got != before {
		t.Errorf("an echo becomes %q, want %q", got, before)
	}
}

// reflect sends back all it was sent, in headers, body and trailers.
func reflect(w http.ResponseWriter, r *http.Request) {
	seen := fmt.Sprintf("%s %v %s", r.RequestURI, r.Header, r.Header.Get("X-Api-Key"))
	w.Header().Set("Trailer", "X-Trailer")
	w.Header().Set("X-Echo", r.Header.Get("X-Api-Key")+r.Header.Get("Authorization"))
	w.Header().Set("Link", "early "+r.Header.Get("X-Api-Key"))
	w.WriteHeader(http.StatusEarlyHints)
	w.Header().Set("Location", r.RequestURI)
	w.Header().Set("Digest", "sha-256=x")
	w.WriteHeader(http.StatusFound)
	for _, b := range []byte(seen) { // every chunk border there is
		_, _ = w.Write([]byte{b})
		_ = http.NewResponseController(w).Flush()
	}
	w.Header().Set("X-Trailer", r.Header.Get("X-Api-Key"))
}

// TestSecretsEndToEnd has a host that shows everything: the container sees
// placeholders alone, the host the values, the records the names.
func TestSecretsEndToEnd(t *testing.T) {
	const (
		queryHolder, queryValue = "ocmt-secret-query-00000", "q/uery value"
		authHolder, authValue   = "ocmt-secret-auth-000000", "auth-value-1234"
	)
	for _, proto := range []string{protoHTTP1, protoHTTP2} {
		rule := withSecret()
		rule.Secrets = append(rule.Secrets,
			Secret{Name: "QUERY", Placeholder: queryHolder, Value: queryValue, Query: "key"},
			Secret{Name: "AUTH", Placeholder: authHolder, Value: authValue, Header: "Authorization"})
		seen := make(chan *http.Request, 1)
		r := newInspectRig(t, Limits{}, func(w http.ResponseWriter, r *http.Request) {
			seen <- r
			reflect(w, r)
		}, rule)
		auth := basicAuth("me", authHolder)
		res, body := do(t, r.client(t, proto), "GET", base+"/p/"+testPlaceholder+"?key="+queryHolder+"&other="+queryHolder, nil,
			"X-Api-Key", testPlaceholder, "Authorization", auth, "X-Other", testPlaceholder, "Accept-Encoding", "gzip, br")
		host := <-seen
		if host.Header.Get("X-Api-Key") != testValue || host.Header.Get("Authorization") != basicAuth("me", authValue) ||
			host.URL.Query().Get("key") != queryValue || host.Header.Get("X-Other") != testPlaceholder ||
			host.URL.Query().Get("other") != queryHolder || host.Header.Get("Accept-Encoding") != "identity" || host.URL.Path != "/p/"+testPlaceholder {
			t.Errorf("%s: the host saw %s %v", proto, host.RequestURI, host.Header)
		}
		all := fmt.Sprint(res.Header, body, res.Trailer)
		for _, value := range []string{testValue, authValue, basicAuth("me", authValue)[len("Basic "):]} {
			if strings.Contains(all, value) {
				t.Errorf("%s: the container saw %q in %s", proto, value, all)
			}
		}
		if res.Header.Get("X-Echo") != testPlaceholder+auth || res.Trailer.Get("X-Trailer") != testPlaceholder || !strings.Contains(body, auth) ||
			strings.Count(body, testPlaceholder) != 4 || res.Header.Get("Digest") != "" || res.ContentLength != -1 {
			t.Errorf("%s: the container saw %s", proto, all)
		}
		c := r.request(t)
		if fmt.Sprint(c.Secrets) != "[API_KEY QUERY AUTH]" || c.Path != "/p/"+testPlaceholder {
			t.Errorf("%s: recorded %+v", proto, c)
		}
		r.stop()
		r.wantNoValue(t, testValue, queryValue, url.QueryEscape(queryValue), authValue, basicAuth("me", authValue)[len("Basic "):])
	}
}

// TestSecretsStayAway sends placeholders where they are not replaced.
func TestSecretsStayAway(t *testing.T) {
	r := newInspectRig(t, Limits{}, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Encoding", "gzip") // passes as it is
		zip := gzip.NewWriter(w)
		fmt.Fprintf(zip, "%s %v %s", r.RequestURI, r.Header, body)
		zip.Close()
	}, withSecret())
	res, err := r.client(t).Post(base+"/"+testPlaceholder+"?x-api-key="+testPlaceholder, testPlaceholder, strings.NewReader(testPlaceholder))
	if err != nil {
		t.Fatal(err)
	}
	unzip, err := gzip.NewReader(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(unzip)
	if err != nil || strings.Contains(string(got), testValue) || strings.Count(string(got), testPlaceholder) != 4 {
		t.Errorf("the host saw %s, %v", got, err)
	}
	if c := r.request(t); len(c.Secrets) != 0 {
		t.Errorf("recorded %+v", c)
	}
}

// TestSecretsInRecords has a container that knows the value all the same.
func TestSecretsInRecords(t *testing.T) {
	rule := withSecret()
	rule.Requests = inspected("GET /v1/*").Requests
	r := newInspectRig(t, Limits{}, show, rule)
	client := r.client(t)
	do(t, client, "GET", base+"/v1/"+testValue, nil)
	do(t, client, "GET", base+"/v2/"+testValue, nil)
	for range 2 {
		if c := r.request(t); !strings.HasSuffix(c.Path, "/"+testPlaceholder) {
			t.Errorf("recorded %+v", c)
		}
	}
	r.wantNoValue(t, testValue)
}
