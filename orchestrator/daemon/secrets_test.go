package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus/wire"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/config"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
	"github.com/ocmt/ocmt/orchestrator/supervisor"
	"github.com/ocmt/ocmt/sandbox/egress/link"
)

const (
	apiKey   = "API_KEY"
	keyValue = "k-0123456789"
)

func (s *stage) set(tenant, name, value string, use v1.SecretUse) error {
	_, err := secretAPI{s.Daemon}.SetSecret(operator(s.t.Context()), tenant, name, v1.SetSecret{Value: value, SecretUse: use})
	return err
}

// bound is how tests bind secrets.
func bound(host string) v1.SecretUse { return v1.SecretUse{Host: host, Header: "X-Key"} }

// writeConfig puts a config.json into effect.
func (s *stage) writeConfig(text string) {
	s.t.Helper()
	if err := os.WriteFile(config.PathFor(s.home.Dir(), plugin.DefaultTenant), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.applyConfig(s.t.Context(), plugin.DefaultTenant)
}

// withSecret installs a plugin that was granted a secret, and returns what its
// next generations are given.
func (s *stage) withSecret(t *testing.T) (plugin.Key, <-chan loaded) {
	t.Helper()
	sc, seen := loads(nil)
	key := s.install("demo", sc)
	next(t, seen)
	if err := s.set(key.Tenant, apiKey, keyValue, bound("api.example.com")); err != nil {
		t.Fatal(err)
	}
	s.grant(key, policy.Secret, apiKey, "")
	if load := next(t, seen); !strings.HasPrefix(load.Env[apiKey], "ocmt-secret-") {
		t.Fatalf("the variables are %q", load.Env)
	}
	return key, seen
}

// Secrets that cannot be read keep the plugins from starting that need one, say
// nothing of what those are made of, and are used again when they are mended.
func TestDamagedSecrets(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, path string){
		"other bytes":           func(t *testing.T, path string) { write(t, path, []byte("nothing of ours")) },
		"readable by everybody": func(t *testing.T, path string) { chmod(t, path, 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			key, _ := s.withSecret(t)
			plain := s.install("plain", script{registers: []wire.Registration{tool("echo")}})
			files, err := filepath.Glob(filepath.Join(s.home.Secrets(), "*.age"))
			if err != nil || len(files) != 1 {
				t.Fatalf("files %q, %v", files, err)
			}
			good, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			s.handOver(func() { damage(t, files[0]) })
			s.eventually("the other plugin runs", s.runs(plain))
			s.eventually("the plugin waits", func() bool { return strings.Contains(s.status(key).LastError, files[0]) })
			if st := s.status(key); st.State != supervisor.StateBackoff || st.ShortRuns != 0 {
				t.Errorf("the plugin is %+v", st)
			}
			write(t, files[0], good)
			chmod(t, files[0], 0o600)
			s.eventually("it runs again", s.runs(key))
		})
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// A plugin whose secret is not set is held back by that, and no crash loop; it
// starts as soon as it is set.
func TestSecretSetLater(t *testing.T) {
	s := newStage(t)
	sc, seen := loads(nil)
	key := s.install("demo", sc)
	next(t, seen)
	if err := s.authority.Grant(t.Context(), key, grantOf(t, policy.Secret, apiKey)); err != nil {
		t.Fatal(err)
	}
	if err := s.supervisor.Replace(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	s.eventually("it waits", func() bool { return s.status(key).State == supervisor.StateBackoff })
	if st := s.status(key); st.ShortRuns != 0 || !strings.Contains(st.LastError, apiKey) {
		t.Errorf("the plugin is %+v", st)
	}
	if err := s.set(key.Tenant, apiKey, keyValue, bound("api.example.com")); err != nil {
		t.Fatal(err)
	}
	next(t, seen)
	s.eventually("it runs", s.runs(key))
}

// Of many who move keys to one name one does, and nobody's key is lost.
func TestMoveToOneName(t *testing.T) {
	s := newStage(t)
	const plugins = 4
	entries := []string{}
	for i := range plugins {
		id := fmt.Sprintf("demo%d", i)
		s.install(id, script{registers: []wire.Registration{tool("echo")}})
		entries = append(entries, fmt.Sprintf(`%q: {"config": {"key": "%s-%d"}}`, id, keyValue, i))
	}
	s.writeConfig(`{"plugins": {"entries": {` + strings.Join(entries, ",") + `}}}`)
	var group sync.WaitGroup
	errs := make([]error, plugins)
	for i := range plugins {
		group.Go(func() {
			req := v1.MoveSecret{Path: "key", Name: apiKey, SecretUse: bound("api.example.com")}
			_, errs[i] = secretAPI{s.Daemon}.MoveSecret(operator(t.Context()), plugin.DefaultTenant, fmt.Sprintf("demo%d", i), req)
		})
	}
	group.Wait()
	moved := 0
	for i, err := range errs {
		entry, _ := s.catalog.entry(plugin.Key{Tenant: plugin.DefaultTenant, ID: fmt.Sprintf("demo%d", i)})
		here := strings.Contains(string(entry.Config), fmt.Sprintf("%s-%d", keyValue, i))
		switch {
		case err == nil:
			moved++
			if value, err := s.secrets.Value(plugin.DefaultTenant, apiKey); err != nil || value != fmt.Sprintf("%s-%d", keyValue, i) || here {
				t.Errorf("demo%d: the key was moved and is %q, %v; its configuration %s", i, value, err, entry.Config)
			}
		case fault.Of(err).Code != "secret_exists" || !here:
			t.Errorf("demo%d: %v; its configuration %s", i, err, entry.Config)
		}
	}
	if moved != 1 {
		t.Errorf("%d keys were moved", moved)
	}
}

// A key that cannot be taken out of config.json is no secret either.
func TestMoveFails(t *testing.T) {
	s := newStage(t)
	key := s.install("demo", script{registers: []wire.Registration{tool("echo")}})
	s.writeConfig(`{"plugins": {"entries": {"demo": {"config": {"key": "` + keyValue + `", "n": 1}}}}}`)
	s.grant(key, policy.Network, "plain.example.com:443", "plaintext")
	for name, req := range map[string]v1.MoveSecret{
		"changed meanwhile": {Path: "key", Name: apiKey, SecretUse: bound("api.example.com")},
		"to plain text":     {Path: "key", Name: apiKey, SecretUse: bound("plain.example.com")},
		"no text":           {Path: "n", Name: apiKey, SecretUse: bound("api.example.com")},
	} {
		if name == "changed meanwhile" {
			write(t, config.PathFor(s.home.Dir(), plugin.DefaultTenant), []byte(`{"plugins": {"entries": {"demo": {"config": {"key": "k-another-key", "n": 1}}}}}`))
		}
		if _, err := (secretAPI{s.Daemon}).MoveSecret(operator(t.Context()), key.Tenant, key.ID, req); err == nil {
			t.Errorf("%s: it is moved", name)
		}
		if _, err := s.secrets.Get(key.Tenant, apiKey); !errdefs.IsNotFound(err) {
			t.Errorf("%s: the secret is there: %v", name, err)
		}
		s.readConfig(key.Tenant)
		entry, _ := s.catalog.entry(key)
		if !strings.Contains(string(entry.Config), `"k-`) || len(s.authority.Grants(key)) != 2 {
			t.Errorf("%s: the configuration is %s, the grants %v", name, entry.Config, s.authority.Grants(key))
		}
		s.writeConfig(`{"plugins": {"entries": {"demo": {"config": {"key": "` + keyValue + `", "n": 1}}}}}`)
	}
}

// What cannot be in force together is refused, whatever comes first, and can be
// put right as the hint says.
func TestSecretsAndPlainText(t *testing.T) {
	s := newStage(t)
	key, _ := s.withSecret(t)
	refused := func(what string, err error) {
		t.Helper()
		if fault.Of(err).Code != "secret_in_plaintext" {
			t.Errorf("%s: %v", what, err)
		}
	}
	grant := func(kind policy.Kind, target, value string) error {
		_, err := permissionAPI{s.Daemon}.Grant(operator(t.Context()), key.Tenant, key.ID, v1.GrantRequest{Kind: string(kind), Target: target, Value: value})
		return err
	}
	refused("the host itself", grant(policy.Network, "api.example.com:443", "plaintext"))
	refused("a wildcard over it", grant(policy.Network, "*.example.com:443", "plaintext"))
	if got := s.outcomes("permission.grant"); slices.Contains(got, outcomeFailed) {
		t.Errorf("what is refused is on record as begun: %q", got)
	}
	s.grant(key, policy.Network, "other.example.com:443", "plaintext")
	refused("bound anew", s.set(key.Tenant, apiKey, keyValue, bound("other.example.com")))
	s.grant(key, policy.Network, "other.example.com:443", "")
	manifest := `{"secrets":["SECOND"],"network":[{"host":"second.example.com","plaintext":true}]}`
	if err := s.set(key.Tenant, "SECOND", keyValue, bound("second.example.com")); err != nil {
		t.Fatal(err)
	}
	before := s.authority.Grants(key)
	_, err := permissionAPI{s.Daemon}.GrantManifest(operator(t.Context()), key.Tenant, key.ID, v1.ManifestRequest{Manifest: []byte(manifest)})
	refused("a manifest", err)
	if len(s.authority.Grants(key)) != len(before) {
		t.Error("some of the manifest is granted")
	}
}

// More destinations than a plugin can have are refused, and cut off none.
func TestTooManyDestinations(t *testing.T) {
	s := newStage(t)
	key := s.install("demo", script{registers: []wire.Registration{tool("echo")}})
	p, err := s.catalog.get(key.Tenant, key.ID)
	if err != nil {
		t.Fatal(err)
	}
	var grants []policy.Grant
	for i := range link.MaxGrants {
		grants = append(grants, grantOf(t, policy.Network, fmt.Sprintf("h%d.example.com:443", i)))
	}
	if _, err := s.Daemon.grant(operator(t.Context()), p, grants...); err != nil {
		t.Fatal(err)
	}
	texts := 0
	for _, e := range s.records("permission.grant") {
		if len(e.Details) == 0 || strings.Contains(string(e.Details), `"cut"`) {
			t.Fatalf("the grants are on record as %s %s", e.Target, e.Details)
		}
		if e.Outcome == outcomeBegun {
			texts += strings.Count(string(e.Details), "network h")
		}
	}
	if texts != len(grants) {
		t.Errorf("%d grants are on record, want %d", texts, len(grants))
	}
	_, err = permissionAPI{s.Daemon}.Grant(operator(t.Context()), key.Tenant, key.ID, v1.GrantRequest{Kind: "network", Target: "more.example.com:443"})
	if fault.Of(err).Code != "too_many_destinations" {
		t.Errorf("one more: %v", err)
	}
	more := grantOf(t, policy.Network, "more.example.com:443") // as an older release may have granted
	if err := s.authority.Grant(t.Context(), key, more); err != nil {
		t.Fatal(err)
	}
	if got := len(s.networkOf(key, s.authority.Effective(key)).Grants()); got != link.MaxGrants {
		t.Errorf("%d destinations are in force", got)
	}
}

// A value in plain is made part of what a later daemon compares by its version
// alone, and an instance that has it is taken over.
func TestAdoptedWithSecrets(t *testing.T) {
	s := newStage(t)
	key, seen := s.withSecret(t)
	if err := s.set(key.Tenant, "PLAIN", keyValue, v1.SecretUse{Env: true}); err != nil {
		t.Fatal(err)
	}
	s.grant(key, policy.Env, "PLAIN", "")
	load := next(t, seen)
	if load.Env["PLAIN"] != keyValue {
		t.Fatalf("the variables are %q", load.Env)
	}
	was := s.status(key)
	record, err := os.ReadFile(filepath.Join(s.home.Instance(was.Instance), "instance.json"))
	if err != nil || strings.Contains(string(record), keyValue) {
		t.Errorf("the record of the instance: %s, %v", record, err)
	}
	s.handOver(func() {})
	s.eventually("it is taken over", s.runs(key))
	if st := s.status(key); st.Instance != was.Instance {
		t.Errorf("it runs as %s, was %s", st.Instance, was.Instance)
	}
	if got := s.secrets.Placeholder(key, apiKey); got != load.Env[apiKey] {
		t.Error("the placeholder is another one")
	}
	s.handOver(func() {})
	s.eventually("it is taken over again", s.runs(key))
	if err := s.set(key.Tenant, "PLAIN", "another", v1.SecretUse{Env: true}); err != nil {
		t.Fatal(err)
	}
	for next(t, seen).Env["PLAIN"] != "another" { // the runner said hello to each daemon
	}
}

// A secret that its owner does not let out in plain is taken from a plugin that
// was granted the variable of that name, and whoever set it is told.
func TestSecretTakesAVariable(t *testing.T) {
	s := newStage(t)
	key, seen := s.granted(t, nil)
	ctx, cancel := context.WithTimeout(operator(t.Context()), patience)
	defer cancel()
	_, err := secretAPI{s.Daemon}.SetSecret(ctx, key.Tenant, colour, v1.SetSecret{Value: keyValue, SecretUse: bound("api.example.com")})
	if f := fault.Of(err); f.Code != "secret_not_plain" || !strings.Contains(err.Error(), key.ID) || ctx.Err() != nil {
		t.Errorf("it is set with %v", err)
	}
	if _, err := (servedPlugins{s.Daemon}).Ready(ctx, key); fault.Of(err).Code != "secret_not_plain" || !fault.Of(err).Retryable {
		t.Errorf("whoever calls a tool is told %v", err)
	}
	_, err = pluginAPI{s.Daemon}.Enable(ctx, key.Tenant, key.ID)
	if fault.Of(err).Code != "secret_not_plain" || ctx.Err() != nil {
		t.Errorf("whoever enables it is told %v", err)
	}
	s.eventually("it waits", func() bool { return s.status(key).State == supervisor.StateBackoff })
	if st := s.status(key); st.ShortRuns != 0 || !strings.Contains(st.LastError, "in plain") {
		t.Errorf("the plugin is %+v", st)
	}
	s.grant(key, policy.Secret, colour, "") // as the hint says
	if load := next(t, seen); load.Env[colour] != s.secrets.Placeholder(key, colour) {
		t.Errorf("the variables are %q", load.Env)
	}
}

// Who grants a secret is told when it is sent nowhere, and how to change that.
func TestSecretWithoutItsHost(t *testing.T) {
	s := newStage(t)
	key := s.install("demo", script{registers: []wire.Registration{tool("echo")}})
	for name, tc := range map[string]struct{ host, network, says string }{
		"NONE":  {"api.example.com", "", "ocmt plugins grant demo network api.example.com:443"},
		"WILD":  {"*.example.net", "", "ocmt plugins grant demo network '*.example.net:443'"},
		"OTHER": {"api.example.org", "example.org:443", "ocmt plugins grant demo network api.example.org:443"},
		"UNDER": {"one.example.edu", "*.example.edu:443", ""},
		"ABOVE": {"*.example.info", "one.example.info:443", ""},
	} {
		if tc.network != "" {
			s.grant(key, policy.Network, tc.network, "")
		}
		if err := s.set(key.Tenant, name, keyValue, bound(tc.host)); err != nil {
			t.Fatal(err)
		}
		said := s.grant(key, policy.Secret, name, "").Permission.Sentence
		if told := strings.Contains(said, "sent nowhere"); told != (tc.says != "") || !strings.HasSuffix(said, tc.says) {
			t.Errorf("%s: %s", name, said)
		}
		in := s.networkOf(key, s.authority.Effective(key)).Grants()
		if used := slices.ContainsFunc(in, func(g link.Grant) bool {
			return g.Host == tc.host || "*"+g.Host[strings.IndexByte(g.Host, '.'):] == tc.host
		}); used != (tc.says == "") {
			t.Errorf("%s: in force are %v", name, in)
		}
	}
}
