package daemon

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
)

// Secrets that are set, granted, revoked, removed and rotated at the same time as
// the plugin is started anew leave what was said last: the plugin runs with what
// is granted and set, and with nothing else.
func TestSecretsAtTheSameTime(t *testing.T) {
	s := newStage(t)
	key, _ := s.withSecret(t)
	s.grant(key, policy.Network, "api.example.com:443", "")
	api, grants := secretAPI{s.Daemon}, permissionAPI{s.Daemon}
	ctx := operator(t.Context())
	var group sync.WaitGroup
	for _, do := range []func(i int){
		func(i int) {
			_ = s.set(key.Tenant, apiKey, fmt.Sprintf("%s-%d", keyValue, i), bound("api.example.com"))
		},
		func(int) {
			_, _ = grants.Grant(ctx, key.Tenant, key.ID, v1.GrantRequest{Kind: "secret", Target: apiKey})
		},
		func(int) {
			_, _ = grants.Revoke(ctx, key.Tenant, key.ID, v1.RevokeRequest{Kind: "secret", Target: apiKey})
		},
		func(int) { _ = api.RemoveSecret(ctx, key.Tenant, apiKey) },
		func(int) { _ = api.RotateSecrets(ctx) },
		func(int) { _, _ = pluginAPI{s.Daemon}.Restart(ctx, key.Tenant, key.ID) },
	} {
		group.Go(func() {
			for i := range 5 {
				do(i)
			}
		})
	}
	group.Wait()
	if _, err := s.secrets.Get(key.Tenant, apiKey); err != nil { // whoever removed it was told that nobody has it
		for _, g := range s.authority.Grants(key) {
			if g.Kind == policy.Secret {
				t.Errorf("a secret that was removed is granted: %+v", g)
			}
		}
	}
	if err := s.set(key.Tenant, apiKey, keyValue+"-last", bound("api.example.com")); err != nil {
		t.Fatal(err)
	}
	s.eventually("it runs", s.runs(key))
	granted := len(s.authority.Effective(key).Secrets) == 1
	if u := s.running(key); (len(u.made.secrets) == 1) != granted || s.stale(key) {
		t.Errorf("it was made with %q; granted: %v", u.made.secrets, granted)
	}
	s.grant(key, policy.Secret, apiKey, "")
	s.eventually("it runs with it", func() bool { u := s.running(key); return u != nil && len(u.made.secrets) == 1 })
	s.revoke(key, policy.Secret, apiKey)
	if u := s.running(key); u == nil || len(u.made.secrets) != 0 {
		t.Error("it runs with what was taken back")
	}
}

// Two tenants' secrets of one name are two secrets, and what is granted to a
// plugin of one is nothing to the same plugin of the other.
func TestSecretsOfTwoTenants(t *testing.T) {
	s := newStage(t)
	key, seen := s.withSecret(t)
	theirs := plugin.Key{Tenant: "acme", ID: key.ID}
	req := s.request(key.ID, v1.AcceptAll)
	if _, err := (pluginAPI{s.Daemon}).Install(operator(t.Context()), theirs.Tenant, req, func(v1.Progress) {}); err != nil {
		t.Fatal(err)
	}
	if load := next(t, seen); load.Env[apiKey] != "" {
		t.Errorf("without a grant it has %q", load.Env)
	}
	grant := v1.GrantRequest{Kind: "secret", Target: apiKey}
	if _, err := (permissionAPI{s.Daemon}).Grant(operator(t.Context()), theirs.Tenant, theirs.ID, grant); err == nil || !strings.Contains(err.Error(), "not set") {
		t.Errorf("another tenant's secret is granted: %v", err)
	}
	if err := s.set(theirs.Tenant, apiKey, "their-value-1", bound("api.example.com")); err != nil {
		t.Fatal(err)
	}
	s.grant(theirs, policy.Secret, apiKey, "")
	mine, other := s.secrets.Placeholder(key, apiKey), s.secrets.Placeholder(theirs, apiKey)
	if load := next(t, seen); load.Env[apiKey] != other || mine == other {
		t.Errorf("it has %q, mine is %q", load.Env[apiKey], mine)
	}
	if err := (secretAPI{s.Daemon}).RemoveSecret(operator(t.Context()), theirs.Tenant, apiKey); err == nil {
		t.Error("a secret that is granted is removed")
	}
	if value, err := s.secrets.Value(key.Tenant, apiKey); err != nil || value != keyValue {
		t.Errorf("mine is %q, %v", value, err)
	}
}
