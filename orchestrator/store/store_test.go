package store

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "ocmt", "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func installed(tenant, id, digest string) plugin.Installed {
	return plugin.Installed{
		Key: plugin.Key{Tenant: tenant, ID: id},
		Descriptor: plugin.Descriptor{
			ID: id, Name: "@acme/" + id, Version: "1.2.3", Root: "node_modules/@acme/" + id, Entries: []string{"index.js"},
			Manifest: json.RawMessage(`{"id":"` + id + `"}`),
		},
		Source:  plugin.SourceNPM,
		Spec:    "@acme/" + id + "@1.2.3",
		Payload: plugin.Payload{Digest: digest, Form: plugin.FormEROFS, Size: 4096, Files: 7},
		Surface: plugin.Surface{Registrations: []plugin.Registration{
			{Kind: "tool", Name: "say", Form: "export", Spec: json.RawMessage(`{"description":"says"}`)}}},
		InstalledAt: time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC),
	}
}

func put(t *testing.T, s *Store, p plugin.Installed) plugin.Key {
	t.Helper()
	if err := s.PutPlugin(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	return p.Key
}

func keys(list []plugin.Installed) []string {
	var out []string
	for _, p := range list {
		out = append(out, p.Key.String())
	}
	return out
}

func TestPluginRoundTrip(t *testing.T) {
	s, ctx := open(t), t.Context()
	want := installed("default", "echo", "sha256:aa")
	key := put(t, s, want)
	got, err := s.Plugin(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	want.Descriptor.Version, want.Payload.Digest = "2.0.0", "sha256:bb"
	put(t, s, want)
	if got, err = s.Plugin(ctx, key); err != nil || !cmp.Equal(want, got) {
		t.Errorf("after replacing it: %v, %v", got, err)
	}

	if err := s.DeletePlugin(ctx, key); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Plugin(ctx, key); !errdefs.IsNotFound(err) {
		t.Errorf("after deleting: %v, want NotFound", err)
	}
	if err := s.DeletePlugin(ctx, key); err != nil {
		t.Errorf("deleting twice: %v", err)
	}
}

func TestTenantsAreApart(t *testing.T) {
	s, ctx := open(t), t.Context()
	a, b := installed("alpha", "echo", "sha256:aa"), installed("beta", "echo", "sha256:aa")
	put(t, s, a)
	put(t, s, b)
	put(t, s, installed("beta", "other", "sha256:cc"))
	for _, key := range []plugin.Key{a.Key, a.Key, b.Key} {
		if _, err := s.NextGeneration(ctx, key); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SaveUnit(ctx, a.Key, json.RawMessage(`{"restarts":3}`)); err != nil {
		t.Fatal(err)
	}

	for tenant, want := range map[string][]string{
		"alpha": {"alpha/echo"},
		"beta":  {"beta/echo", "beta/other"},
		"gamma": nil,
		"":      {"alpha/echo", "beta/echo", "beta/other"},
	} {
		got, err := s.Plugins(ctx, tenant)
		if err != nil || !cmp.Equal(want, keys(got)) {
			t.Errorf("Plugins(%q) = %v, %v, want %v", tenant, keys(got), err, want)
		}
	}
	for key, want := range map[plugin.Key]uint64{a.Key: 2, b.Key: 1, {Tenant: "gamma", ID: "echo"}: 0} {
		if got, err := s.Generation(ctx, key); err != nil || got != want {
			t.Errorf("Generation(%s) = %d, %v, want %d", key, got, err, want)
		}
	}
	if doc, err := s.LoadUnit(ctx, b.Key); err != nil || doc != nil {
		t.Errorf("beta sees counters %s, %v", doc, err)
	}

	if err := s.DeletePlugin(ctx, a.Key); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Plugin(ctx, b.Key); err != nil {
		t.Errorf("deleting alpha's plugin took beta's: %v", err)
	}
}

func TestUnitsLiveWithTheirPlugin(t *testing.T) {
	s, ctx := open(t), t.Context()
	p := installed("default", "echo", "sha256:aa")
	if err := s.SaveUnit(ctx, p.Key, json.RawMessage(`{}`)); !errdefs.IsNotFound(err) {
		t.Errorf("counters of an unknown plugin: %v, want NotFound", err)
	}
	put(t, s, p)
	for _, doc := range []string{`{"n":1}`, `{"n":2}`} {
		if err := s.SaveUnit(ctx, p.Key, json.RawMessage(doc)); err != nil {
			t.Fatal(err)
		}
	}
	put(t, s, p) // an update of the plugin keeps them
	if doc, err := s.LoadUnit(ctx, p.Key); err != nil || string(doc) != `{"n":2}` {
		t.Errorf("LoadUnit = %s, %v", doc, err)
	}
	if err := s.DeleteUnit(ctx, p.Key); err != nil {
		t.Fatal(err)
	}
	if doc, err := s.LoadUnit(ctx, p.Key); err != nil || doc != nil {
		t.Errorf("after DeleteUnit: %s, %v", doc, err)
	}
	if err := s.SaveUnit(ctx, p.Key, json.RawMessage(`{"n":3}`)); err != nil {
		t.Fatal(err)
	}
	if err := s.DeletePlugin(ctx, p.Key); err != nil {
		t.Fatal(err)
	}
	put(t, s, p)
	if doc, err := s.LoadUnit(ctx, p.Key); err != nil || doc != nil {
		t.Errorf("a new installation inherits counters: %s, %v", doc, err)
	}
}

func TestGenerationSurvivesUninstall(t *testing.T) {
	s, ctx := open(t), t.Context()
	p := installed("default", "echo", "sha256:aa")
	for want := uint64(1); want <= 3; want++ {
		put(t, s, p)
		if got, err := s.NextGeneration(ctx, p.Key); err != nil || got != want {
			t.Errorf("NextGeneration = %d, %v, want %d", got, err, want)
		}
		if err := s.DeletePlugin(ctx, p.Key); err != nil {
			t.Fatal(err)
		}
	}
}

func TestConcurrentWritersAndReaders(t *testing.T) {
	s, ctx := open(t), t.Context()
	const workers, rounds = 8, 25
	key := put(t, s, installed("default", "echo", "sha256:aa"))
	var mu sync.Mutex
	seen := map[uint64]bool{}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range rounds {
				n, err := s.NextGeneration(ctx, key)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := s.Plugins(ctx, ""); err != nil {
					t.Error(err)
				}
				mu.Lock()
				seen[n] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != workers*rounds {
		t.Errorf("%d different generations, want %d", len(seen), workers*rounds)
	}
}

func TestKeysThatCannotBe(t *testing.T) {
	s, ctx := open(t), t.Context()
	for _, key := range []plugin.Key{{}, {Tenant: "default", ID: "../x"}, {Tenant: "Not A Tenant", ID: "echo"}, {Tenant: "", ID: "echo"}} {
		p := installed("default", "echo", "sha256:aa")
		p.Key = key
		if err := s.PutPlugin(ctx, p); !errdefs.IsInvalidArgument(err) {
			t.Errorf("PutPlugin(%q) = %v, want InvalidArgument", key, err)
		}
		if _, err := s.NextGeneration(ctx, key); !errdefs.IsInvalidArgument(err) {
			t.Errorf("NextGeneration(%q) = %v, want InvalidArgument", key, err)
		}
	}
}

func TestCancelledCallsAreClassed(t *testing.T) {
	s := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Plugins(ctx, ""); !errdefs.IsCanceled(err) {
		t.Errorf("Plugins = %v, want Canceled", err)
	}
	if _, err := s.NextGeneration(ctx, plugin.Key{Tenant: "default", ID: "echo"}); !errdefs.IsCanceled(err) {
		t.Errorf("NextGeneration = %v, want Canceled", err)
	}
}

func TestHomeID(t *testing.T) {
	path := filepath.Join(t.TempDir(), "with ? and % and #", "state.db")
	var first string
	for range 2 {
		s, err := Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		id := s.HomeID()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(id) {
			t.Errorf("home id %q is not 128 bits of hex", id)
		}
		if first == "" {
			first = id
		} else if id != first {
			t.Errorf("home id changed from %s to %s", first, id)
		}
	}
	if other := open(t).HomeID(); other == first {
		t.Errorf("two homes share the id %s", other)
	}
}

func TestEngine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	for _, want := range []string{"", "docker", "containerd"} {
		s, err := Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Engine(t.Context())
		if err != nil || got != want {
			t.Errorf("Engine = %q, %v, want %q", got, err, want)
		}
		next := map[string]string{"": "docker", "docker": "containerd", "containerd": "docker"}[want]
		if err := errors.Join(s.SetEngine(t.Context(), next), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
