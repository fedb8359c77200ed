package store

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
)

var grantedAt = time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC)

func env(name string) policy.Grant {
	return policy.Grant{Kind: policy.Env, Target: name, Origin: policy.OriginGrant, Actor: "uid:7", At: grantedAt}
}

func wantGrants(t *testing.T, s *Store, key plugin.Key, want ...policy.Grant) {
	t.Helper()
	got, err := s.Grants(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("grants of %s: -want +got:\n%s", key, diff)
	}
}

func TestGrants(t *testing.T) {
	s, ctx := open(t), t.Context()
	a := put(t, s, installed("alpha", "echo", "sha256:aa"))
	b := put(t, s, installed("beta", "echo", "sha256:aa"))
	hook := policy.Grant{Kind: policy.Hook, Target: "before_tool_call", Value: "observe", Origin: policy.OriginReview, Actor: "uid:7", At: grantedAt}
	ends := env("TZ")
	ends.ExpiresAt = grantedAt.Add(time.Hour)
	if err := s.PutGrants(ctx, a, []policy.Grant{hook, env("LANG"), ends}); err != nil {
		t.Fatal(err)
	}
	if err := s.PutGrants(ctx, b, []policy.Grant{env("TZ")}); err != nil {
		t.Fatal(err)
	}
	wantGrants(t, s, a, env("LANG"), ends, hook)

	hook.Value, hook.Actor = "observe,block", "uid:8"
	if err := s.PutGrants(ctx, a, []policy.Grant{hook}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, false} {
		if was, err := s.DeleteGrant(ctx, a, policy.Env, "TZ"); err != nil || was != want {
			t.Errorf("DeleteGrant = %v, %v, want %v", was, err, want)
		}
	}
	all, err := s.AllGrants(ctx)
	want := map[plugin.Key][]policy.Grant{a: {env("LANG"), hook}, b: {env("TZ")}}
	if diff := cmp.Diff(want, all); err != nil || diff != "" {
		t.Errorf("AllGrants: %v, -want +got:\n%s", err, diff)
	}

	put(t, s, installed("alpha", "echo", "sha256:bb"))
	wantGrants(t, s, a, env("LANG"), hook) // they outlive a replacement
	if err := s.DeletePlugin(ctx, a); err != nil {
		t.Fatal(err)
	}
	wantGrants(t, s, a)
	put(t, s, installed("alpha", "echo", "sha256:cc"))
	wantGrants(t, s, a) // and not an uninstall
	wantGrants(t, s, b, env("TZ"))

	if err := s.PutGrants(ctx, plugin.Key{Tenant: "alpha", ID: "none"}, []policy.Grant{env("TZ")}); !errdefs.IsNotFound(err) {
		t.Errorf("grants of a plugin that is not there: %v, want NotFound", err)
	}
}

func TestPutPluginWithGrants(t *testing.T) {
	s, ctx := open(t), t.Context()
	p := installed("default", "echo", "sha256:aa")
	consent := Consent{Digest: "sha256:11", Actor: "uid:7", At: grantedAt}
	if c, err := s.Consent(ctx, p.Key); err != nil || c != (Consent{}) {
		t.Errorf("before: %+v, %v", c, err)
	}
	if err := s.PutPluginWithGrants(ctx, p, []policy.Grant{env("TZ")}, consent); err != nil {
		t.Fatal(err)
	}
	if c, err := s.Consent(ctx, p.Key); err != nil || c != consent {
		t.Errorf("Consent = %+v, %v, want %+v", c, err, consent)
	}
	wantGrants(t, s, p.Key, env("TZ"))

	// An update that fails in the middle leaves everything as it was.
	p.Payload.Digest = "sha256:bb"
	if _, err := s.write.ExecContext(ctx, `CREATE TEMP TRIGGER refuse BEFORE INSERT ON grants WHEN NEW.target = 'BAD' BEGIN SELECT RAISE(ABORT, 'no'); END`); err != nil {
		t.Fatal(err)
	}
	if err := s.PutPluginWithGrants(ctx, p, []policy.Grant{env("LANG"), env("BAD")}, Consent{Digest: "sha256:22"}); err == nil {
		t.Fatal("a grant that cannot be written is no error")
	}
	wantGrants(t, s, p.Key, env("TZ"))
	if c, err := s.Consent(ctx, p.Key); err != nil || c != consent {
		t.Errorf("Consent = %+v, %v, want the one before", c, err)
	}
	if got, err := s.Plugin(ctx, p.Key); err != nil || got.Payload.Digest != "sha256:aa" {
		t.Errorf("the plugin has the digest %s, %v, want the one before", got.Payload.Digest, err)
	}
	if err := s.PutPluginWithGrants(ctx, p, []policy.Grant{env("LANG")}, Consent{Digest: "sha256:22", Actor: "uid:7", At: grantedAt}); err != nil {
		t.Fatal(err)
	}
	wantGrants(t, s, p.Key, env("LANG"), env("TZ"))
	p.Key.ID = "../x"
	if err := s.PutPluginWithGrants(ctx, p, nil, consent); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a bad key: %v, want InvalidArgument", err)
	}
}

func TestDenials(t *testing.T) {
	s, ctx := open(t), t.Context()
	a, b := put(t, s, installed("alpha", "echo", "sha256:aa")), put(t, s, installed("beta", "echo", "sha256:aa"))
	for _, request := range []string{"req_1", "req_2", "req_1"} {
		if err := s.PutDenial(ctx, a, request, "uid:7", grantedAt); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.PutDenial(ctx, b, "req_1", "uid:7", grantedAt); err != nil {
		t.Fatal(err)
	}
	want := map[plugin.Key]map[string]bool{a: {"req_1": true, "req_2": true}, b: {"req_1": true}}
	if got, err := s.AllDenials(ctx); err != nil || !cmp.Equal(want, got) {
		t.Errorf("AllDenials() = %v, %v, want %v", got, err, want)
	}
	if err := s.PutDenial(ctx, plugin.Key{Tenant: "alpha", ID: "none"}, "req_1", "uid:7", grantedAt); !errdefs.IsNotFound(err) {
		t.Errorf("a denial of a plugin that is not there: %v, want NotFound", err)
	}
	if err := s.DeletePlugin(ctx, a); err != nil {
		t.Fatal(err)
	}
	put(t, s, installed("alpha", "echo", "sha256:aa"))
	if got, err := s.AllDenials(ctx); err != nil || len(got[a]) != 0 || len(got[b]) != 1 {
		t.Errorf("after an uninstall: %v, %v", got, err)
	}
}

// TestMigrateFromFirstSchema opens a database of the schema before grants.
func TestMigrateFromFirstSchema(t *testing.T) {
	path := seed(t)
	execRaw(t, path, `DROP TABLE grants; DROP TABLE denials; DROP TABLE reviews; DROP TABLE tokens; DROP TABLE uid_blocks; PRAGMA user_version = 1`)
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	key := plugin.Key{Tenant: "default", ID: "a"}
	if err := s.PutGrants(t.Context(), key, []policy.Grant{env("TZ")}); err != nil {
		t.Fatal(err)
	}
	wantGrants(t, s, key, env("TZ"))
}

func TestCorruptTimes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := Open(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	key := put(t, s, installed("default", "echo", "sha256:aa"))
	if err := s.PutGrants(t.Context(), key, []policy.Grant{env("TZ")}); err != nil {
		t.Fatal(err)
	}
	execRaw(t, path, `UPDATE grants SET expires_at = 'never'`)
	if got, err := s.Grants(t.Context(), key); !errdefs.IsDataLoss(err) || got != nil || !strings.Contains(err.Error(), "time") {
		t.Errorf("Grants = %v, %v, want DataLoss: a grant whose end is unknown", got, err)
	}
}
