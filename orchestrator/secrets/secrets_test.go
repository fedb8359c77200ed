package secrets

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

const sample = "value-of-the-sample"

func bound(name string) Secret {
	return Secret{Name: name, Host: "api.example.com", Header: "Authorization"}
}

// place is where a store of a test lives.
type place struct{ dir, key string }

func newPlace(t *testing.T) place {
	t.Helper()
	dir := t.TempDir()
	return place{filepath.Join(dir, "secrets"), filepath.Join(dir, "keys", "secrets.key")}
}

func (p place) open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(p.dir, p.key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func set(t *testing.T, s *Store, tenant, name, value string) Secret {
	t.Helper()
	meta, err := s.Set(t.Context(), tenant, bound(name), value)
	if err != nil {
		t.Fatal(err)
	}
	return meta
}

func wantValue(t *testing.T, s *Store, tenant, name, want string) {
	t.Helper()
	if got, err := s.Value(tenant, name); err != nil || got != want {
		t.Errorf("Value(%s, %s) = %q, %v, want %q", tenant, name, got, err, want)
	}
}

func TestStore(t *testing.T) {
	p := newPlace(t)
	s := p.open(t)
	first, err := s.Set(t.Context(), "acme", Secret{Name: "KEY", Host: "API.Example.com", Header: "x-api-key", Actor: "uid:0\x1b"}, sample)
	if err != nil {
		t.Fatal(err)
	}
	want := Secret{Name: "KEY", Host: "api.example.com", Port: 443, Header: "X-Api-Key", Actor: "uid:0",
		CreatedAt: first.CreatedAt, UpdatedAt: first.CreatedAt}
	if diff := cmp.Diff(want, first); diff != "" || first.CreatedAt.IsZero() {
		t.Errorf("Set: -want +got:\n%s", diff)
	}
	again, err := s.Set(t.Context(), "acme", Secret{Name: "KEY", Host: "*.example.com", Port: 8443, Query: "key", Env: true}, sample+"2")
	if err != nil || again.CreatedAt != first.CreatedAt || again.UpdatedAt.Before(first.UpdatedAt) {
		t.Errorf("set again: %+v, %v", again, err)
	}
	set(t, s, "acme", "A", sample)
	set(t, s, "default", "KEY", sample+"3")

	for _, s := range []*Store{s, p.open(t)} {
		list, err := s.List("acme")
		if err != nil || len(list) != 2 || list[0].Name != "A" || list[1] != again {
			t.Errorf("List = %+v, %v", list, err)
		}
		if got, err := s.Get("acme", "KEY"); err != nil || got != again {
			t.Errorf("Get = %+v, %v, want %+v", got, err, again)
		}
		wantValue(t, s, "acme", "KEY", sample+"2")
		wantValue(t, s, "default", "KEY", sample+"3")
		if list, err := s.List("nobody"); err != nil || len(list) != 0 {
			t.Errorf("of a tenant without any: %v, %v", list, err)
		}
	}
	if err := s.Remove(t.Context(), "acme", "KEY"); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveTenant(t.Context(), "default"); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveTenant(t.Context(), "default"); err != nil {
		t.Errorf("a second time: %v", err)
	}
	for _, s := range []*Store{s, p.open(t)} {
		_, getErr := s.Get("acme", "KEY")
		_, valueErr := s.Value("default", "KEY")
		removeErr := s.Remove(t.Context(), "acme", "KEY")
		for _, err := range []error{getErr, valueErr, removeErr} {
			if f := fault.Of(err); !errdefs.IsNotFound(err) || f.Code != "secret_not_found" || f.Hint == "" {
				t.Errorf("got %v, want NotFound with a hint", err)
			}
		}
		wantValue(t, s, "acme", "A", sample)
	}
}

func TestTenantsAreChecked(t *testing.T) {
	s := newPlace(t).open(t)
	for _, tenant := range []string{"", "..", "../x", "a/b", "A", "a.age"} {
		_, setErr := s.Set(t.Context(), tenant, bound("KEY"), sample)
		_, listErr := s.List(tenant)
		for _, err := range []error{setErr, listErr, s.Remove(t.Context(), tenant, "KEY"), s.RemoveTenant(t.Context(), tenant)} {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("tenant %q: %v, want InvalidArgument", tenant, err)
			}
		}
		if got := s.Placeholder(plugin.Key{Tenant: tenant, ID: "x"}, "KEY"); got != "" {
			t.Errorf("tenant %q has the placeholder %q", tenant, got)
		}
	}
}

func TestValidation(t *testing.T) {
	env := Secret{Name: "KEY", Env: true}
	header := func(h string) Secret { return Secret{Name: "KEY", Host: "a.example", Header: h} }
	tests := []struct {
		name  string
		meta  Secret
		value string
		says  string // a part of message or hint; empty: accepted
	}{
		{"header", bound("KEY"), sample, ""},
		{"query", Secret{Name: "KEY", Host: "localhost", Port: 8080, Query: "filter[key]"}, "schlüssel", ""},
		{"wildcard", Secret{Name: "KEY", Host: "*.example.com", Header: "X-Key"}, sample, ""},
		{"env", env, "x", ""},
		{"several lines", env, "-----BEGIN X-----\n\tAAAA\r\n-----END X-----\n", ""},
		{"largest", bound("KEY"), strings.Repeat("x", MaxValue), ""},
		{"shortest", bound("KEY"), "12345678", ""},

		{"name", bound("API-KEY"), sample, "letters, digits"},
		{"no name", bound(""), sample, "letters, digits"},
		{"name too long", bound(strings.Repeat("A", 129)), sample, "at most 128"},
		{"bound to nothing", Secret{Name: "KEY"}, sample, "bound to no host"},
		{"header without host", Secret{Name: "KEY", Header: "X-Key", Env: true}, sample, "no host"},
		{"query without host", Secret{Name: "KEY", Query: "key", Env: true}, sample, "no host"},
		{"port without host", Secret{Name: "KEY", Port: 443, Env: true}, sample, "no host"},
		{"host alone", Secret{Name: "KEY", Host: "a.example", Env: true}, sample, "neither a header nor a query"},
		{"header and query", Secret{Name: "KEY", Host: "a.example", Header: "X-Key", Query: "key"}, sample, "both"},
		{"host with scheme", Secret{Name: "KEY", Host: "https://a.example", Header: "X-Key"}, sample, "scheme"},
		{"host of everybody", Secret{Name: "KEY", Host: "*", Header: "X-Key"}, sample, "wildcard"},
		{"public suffix", Secret{Name: "KEY", Host: "*.github.io", Header: "X-Key"}, sample, "many owners"},
		{"address", Secret{Name: "KEY", Host: "127.0.0.1", Header: "X-Key"}, sample, "address"},
		{"query of blanks", Secret{Name: "KEY", Host: "a.example", Query: "a b"}, sample, "query parameter"},
		{"query too long", Secret{Name: "KEY", Host: "a.example", Query: strings.Repeat("a", 129)}, sample, "query parameter"},
		{"query with an end", Secret{Name: "KEY", Host: "a.example", Query: "a=b&c"}, sample, "query parameter"},
		{"header with colon", header("X-Key: "), sample, "no name of a header"},
		{"header with line end", header("X\r\nY"), sample, "no name of a header"},
		{"header too long", header(strings.Repeat("a", 129)), sample, "no name of a header"},
		{"host header", header("host"), sample, "how the message is sent"},
		{"length", header("content-length"), sample, "how the message is sent"},
		{"encoding", header("TRANSFER-ENCODING"), sample, "how the message is sent"},
		{"connection", header("Connection"), sample, "how the message is sent"},
		{"keep-alive", header("Keep-Alive"), sample, "how the message is sent"},
		{"upgrade", header("Upgrade"), sample, "how the message is sent"},
		{"te", header("TE"), sample, "how the message is sent"},
		{"trailer", header("trailer"), sample, "how the message is sent"},
		{"proxy", header("proxy-authorization"), sample, "how the message is sent"},

		{"empty", bound("KEY"), "", "is empty"},
		{"blank", env, " \t ", "is empty"},
		{"too long", env, strings.Repeat("x", MaxValue+1), "at most 16384"},
		{"short", bound("KEY"), "1234567", "7 characters"},
		{"a line end after it", bound("KEY"), sample + "\n", "printf, not echo"},
		{"two lines", Secret{Name: "KEY", Host: "a.example", Header: "X-Key", Env: true}, sample + "\r\nX: y", "more than one line"},
		{"NUL", env, sample + "\x00", "control characters"},
		{"escape", env, sample + "\x1b[2J", "control characters"},
		{"C1", env, sample + "\u0085", "control characters"},
		{"tab", bound("KEY"), sample + "\tx", "control characters"},
		{"blank before", bound("KEY"), " " + sample, "begins or ends"},
		{"no text", env, sample + "\xff", "UTF-8"},
		{"not for a header", bound("KEY"), sample + "ü", "no header can carry"},
		{"a placeholder", env, PlaceholderPrefix + "abc", "is a placeholder"},
	}
	s := newPlace(t).open(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := s.Set(t.Context(), "default", tt.meta, tt.value)
			if tt.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				wantValue(t, s, "default", tt.meta.Name, tt.value)
				return
			}
			f := fault.Of(err)
			if !errdefs.IsInvalidArgument(err) || f.Code != "invalid_secret" || f.Hint == "" || !strings.Contains(f.Message+"; "+f.Hint, tt.says) {
				t.Errorf("got %v (%s; hint %q), want %q", err, f.Code, f.Hint, tt.says)
			}
			if v := strings.TrimSpace(tt.value); len(v) > 7 && strings.Contains(f.Message+f.Hint, v) {
				t.Errorf("the error holds the value: %v", err)
			}
		})
	}
}

func TestMaxSecrets(t *testing.T) {
	s := newPlace(t).open(t)
	v := newVault()
	for i := range MaxSecrets {
		name := fmt.Sprintf("K%d", i)
		v.items[name] = item{bound(name), strings.Repeat("<", MaxValue)} // the largest in JSON
	}
	if err := s.save("default", v); err != nil {
		t.Fatal(err)
	}
	_, err := s.Set(t.Context(), "default", bound("MORE"), sample)
	if !errdefs.IsResourceExhausted(err) || fault.Of(err).Hint == "" {
		t.Errorf("one more: %v, want ResourceExhausted with a hint", err)
	}
	set(t, s, "default", "K0", sample)
	if err := s.Remove(t.Context(), "default", "K0"); err != nil {
		t.Fatal(err)
	}
	set(t, s, "default", "MORE", sample)
}

func TestPlaceholder(t *testing.T) {
	p := newPlace(t)
	s := p.open(t)
	key := plugin.Key{Tenant: "default", ID: "brave"}
	got := s.Placeholder(key, "KEY")
	set(t, s, "default", "OTHER", sample)
	if !strings.HasPrefix(got, PlaceholderPrefix) || len(got) != len(PlaceholderPrefix)+40 || strings.Trim(got[len(PlaceholderPrefix):], "abcdefghijklmnopqrstuvwxyz234567") != "" {
		t.Errorf("it is %q", got)
	}
	if err := s.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Store{s, p.open(t)} {
		if now := s.Placeholder(key, "KEY"); now != got {
			t.Errorf("it was %q and is %q", got, now)
		}
	}
	seen := map[string]string{}
	for _, k := range []plugin.Key{key, {Tenant: "acme", ID: "brave"}, {Tenant: "default", ID: "other"}} {
		for _, name := range []string{"KEY", "KEY2"} {
			ph := s.Placeholder(k, name)
			if of, taken := seen[ph]; taken {
				t.Errorf("%s of %s has the placeholder of %s", name, k, of)
			}
			seen[ph] = name + " of " + k.String()
		}
	}
	if other := newPlace(t).open(t).Placeholder(key, "KEY"); other == got {
		t.Error("two homes have the same placeholder")
	}
	if err := s.RemoveTenant(t.Context(), "default"); err != nil {
		t.Fatal(err)
	}
	if now := s.Placeholder(key, "KEY"); now == got {
		t.Error("it outlives the tenant's secrets")
	}
}

func TestNothingPrintsValues(t *testing.T) {
	p := newPlace(t)
	s := p.open(t)
	set(t, s, "default", "KEY", sample)
	key := s.key.String()
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("store", "store", s)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("store", "store", s)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%p"} {
		fmt.Fprintf(&out, verb+"\n", s)
		fmt.Fprintf(&out, verb+"\n", []any{s})
	}
	if text, err := json.Marshal(map[string]any{"store": s}); err == nil {
		out.Write(text)
	}
	list, _ := s.List("default")
	fmt.Fprintf(&out, "%#v", list)
	for _, secret := range []string{sample, fmt.Sprintf("%x", sample), key, fmt.Sprintf("%x", key)} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("%q is in:\n%s", secret, out.String())
		}
	}
	for _, file := range files(t, p) {
		data, err := os.ReadFile(file)
		if err != nil || bytes.Contains(data, []byte(sample)) {
			t.Errorf("%s holds the value, or: %v", file, err)
		}
	}
}

func files(t *testing.T, p place) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(filepath.Dir(p.dir), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestConcurrency(t *testing.T) {
	p := newPlace(t)
	s := p.open(t)
	var wg sync.WaitGroup
	for i := range 4 {
		tenant := fmt.Sprintf("t%d", i%2)
		wg.Go(func() {
			for n := range 10 {
				name := fmt.Sprintf("K%d_%d", i, n)
				if _, err := s.Set(t.Context(), tenant, bound(name), sample+name); err != nil {
					t.Error(err)
				}
				wantValue(t, s, tenant, name, sample+name)
				if n%2 == 1 {
					if err := s.Remove(t.Context(), tenant, name); err != nil {
						t.Error(err)
					}
				}
			}
		})
		wg.Go(func() {
			first := s.Placeholder(plugin.Key{Tenant: tenant, ID: "x"}, "KEY")
			for range 200 {
				if _, err := s.List(tenant); err != nil {
					t.Error(err)
				}
				if now := s.Placeholder(plugin.Key{Tenant: tenant, ID: "x"}, "KEY"); now != first {
					t.Errorf("the placeholder was %s and is %s", first, now)
				}
			}
		})
	}
	wg.Go(func() {
		for range 5 {
			if err := s.Rotate(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	for _, s := range []*Store{s, p.open(t)} {
		for i := range 4 {
			for n := 0; n < 10; n += 2 {
				name := fmt.Sprintf("K%d_%d", i, n)
				wantValue(t, s, fmt.Sprintf("t%d", i%2), name, sample+name)
			}
		}
	}
}

func TestCancelled(t *testing.T) {
	p := newPlace(t)
	s := p.open(t)
	set(t, s, "default", "KEY", sample)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Set(ctx, "default", bound("KEY"), sample+"2")
	for _, err := range []error{err, s.Remove(ctx, "default", "KEY"), s.RemoveTenant(ctx, "default"), s.Rotate(ctx)} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	wantValue(t, s, "default", "KEY", sample)
	wantValue(t, p.open(t), "default", "KEY", sample)
}

// The file is one that age itself reads with the key file.
func TestFormat(t *testing.T) {
	p := newPlace(t)
	set(t, p.open(t), "default", "KEY", sample)
	keyFile, err := os.Open(p.key)
	if err != nil {
		t.Fatal(err)
	}
	defer keyFile.Close()
	identities, err := age.ParseIdentities(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(p.dir, "default.age"))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := decrypt(data, identities)
	if err != nil || !bytes.Contains(plain, []byte(`"value":"`+sample+`"`)) {
		t.Errorf("%s, %v", plain, err)
	}
}

func FuzzDecode(f *testing.F) {
	v := newVault()
	v.items["KEY"] = item{bound("KEY"), sample}
	plain, err := encode("default", v)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Add(bytes.Replace(plain, []byte(`"version":1`), []byte(`"version":2`), 1))
	f.Add([]byte(`{"version":1,"tenant":"default","salt":"","secrets":[{"name":"A"},{"name":"A"}]}`))
	f.Fuzz(func(t *testing.T, plain []byte) {
		v, problem := decode("default", plain)
		if (v == nil) == (problem == "") {
			t.Fatalf("decode = %v, %q", v, problem)
		}
		if v == nil {
			return
		}
		text, err := encode("default", v)
		if err != nil {
			return // a time that JSON cannot write
		}
		again, problem := decode("default", text)
		if problem != "" || !bytes.Equal(again.salt, v.salt) || len(again.items) != len(v.items) {
			t.Fatalf("%s: %q", text, problem)
		}
		for name, it := range v.items {
			if again.items[name].value != it.value {
				t.Errorf("the value of %s changed", name)
			}
		}
	})
}

func FuzzSet(f *testing.F) {
	f.Add("KEY", "api.example.com", "X-Key", "", sample, false)
	f.Add("KEY", "", "", "", "a\nb", true)
	p := place{f.TempDir() + "/secrets", f.TempDir() + "/key"}
	s, err := Open(p.dir, p.key)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name, host, header, query, value string, env bool) {
		meta, err := s.Set(t.Context(), "default", Secret{Name: name, Host: host, Header: header, Query: query, Env: env}, value)
		if err != nil {
			if e := fault.Of(err); e.Code != "invalid_secret" || e.Hint == "" {
				t.Fatalf("%v (%s, hint %q)", err, e.Code, e.Hint)
			}
			return
		}
		carried := meta.Header != "" || meta.Query != ""
		if carried != (meta.Host != "") || !carried && !meta.Env {
			t.Errorf("accepted %+v", meta)
		}
		again := p.open(t)
		wantValue(t, again, "default", name, value)
		if got, err := again.Get("default", name); err != nil || got != meta {
			t.Errorf("Get = %+v, %v, want %+v", got, err, meta)
		}
		if err := s.Remove(t.Context(), "default", name); err != nil {
			t.Error(err)
		}
	})
}
