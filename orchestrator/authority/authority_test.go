package authority_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/authority"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
	"github.com/ocmt/ocmt/orchestrator/store"
)

var (
	echo  = plugin.Key{Tenant: "default", ID: "echo"}
	other = plugin.Key{Tenant: "beta", ID: "echo"}
)

// change is what an authority told.
type change struct {
	Key           plugin.Key
	Before, After []string // the variables
}

// installed is what is installed and configured, and takes down what is told.
type installed struct {
	mu         sync.Mutex
	plugins    map[plugin.Key]plugin.Installed
	narrowings map[plugin.Key]policy.Narrowing
	changes    []change
	expired    []string
	onChange   func(plugin.Key)
}

func (p *installed) Installed(key plugin.Key) (plugin.Installed, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	in, ok := p.plugins[key]
	return in, ok
}

func (p *installed) Narrowing(key plugin.Key) policy.Narrowing {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.narrowings[key]
}

func (p *installed) narrow(t *testing.T, key plugin.Key, text string) {
	t.Helper()
	n, err := policy.ParseNarrowing(json.RawMessage(text), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.narrowings[key] = n
}

func (p *installed) changed(key plugin.Key, before, after policy.Effective) {
	p.mu.Lock()
	p.changes = append(p.changes, change{key, before.Env, after.Env})
	p.mu.Unlock()
	if p.onChange != nil {
		p.onChange(key)
	}
}

func (p *installed) ended(key plugin.Key, ended []policy.Grant) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range ended {
		p.expired = append(p.expired, key.ID+" "+string(g.Kind)+" "+g.Target)
	}
}

// told returns what was told since the last time.
func (p *installed) told() (changes []change, expired []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	changes, expired = p.changes, p.expired
	p.changes, p.expired = nil, nil
	return changes, expired
}

func openStore(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// setup returns an authority over a store in dir, in which both plugins are
// installed. They ask for the variable TZ, and register a tool.
func setup(t *testing.T, s authority.Store, real *store.Store) (*authority.Authority, *installed) {
	t.Helper()
	p := &installed{plugins: map[plugin.Key]plugin.Installed{}, narrowings: map[plugin.Key]policy.Narrowing{}}
	permissions, err := plugin.ParsePermissions([]byte(`{"env": ["TZ"]}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []plugin.Key{echo, other} {
		in := plugin.Installed{
			Key: key, Source: plugin.SourcePath, Spec: "/src/echo", Payload: plugin.Payload{Digest: "sha256:aa", Form: plugin.FormTree},
			Descriptor:  plugin.Descriptor{ID: key.ID, Name: key.ID, Version: "1.0.0", Manifest: json.RawMessage(`{}`), HasPermissions: true, Permissions: permissions},
			Surface:     plugin.Surface{Registrations: []plugin.Registration{{Kind: plugin.KindTool, Name: "say"}}},
			InstalledAt: time.Now().UTC(),
		}
		if err := real.PutPlugin(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		p.plugins[key] = in
	}
	return load(t, s, p), p
}

func load(t *testing.T, s authority.Store, p *installed) *authority.Authority {
	t.Helper()
	a, err := authority.Load(t.Context(), authority.Config{
		Store: s, Plugins: p, Limits: policy.DefaultLimits, Changed: p.changed, Expired: p.ended,
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func grantOf(t *testing.T, kind policy.Kind, target, value string) policy.Grant {
	t.Helper()
	g, err := policy.ParseGrant(string(kind), target, value)
	if err != nil {
		t.Fatal(err)
	}
	g.Origin, g.Actor, g.At = policy.OriginGrant, "uid:0", time.Now().UTC().Truncate(time.Microsecond)
	return g
}

func env(t *testing.T, name string) policy.Grant { return grantOf(t, policy.Env, name, "") }

func mustGrant(t *testing.T, a *authority.Authority, key plugin.Key, grants ...policy.Grant) {
	t.Helper()
	if err := a.Grant(t.Context(), key, grants...); err != nil {
		t.Fatal(err)
	}
}

func wantEnv(t *testing.T, a *authority.Authority, key plugin.Key, want ...string) {
	t.Helper()
	if got := a.Effective(key).Env; !slices.Equal(got, want) {
		t.Errorf("%s may read %v, want %v", key, got, want)
	}
}

// requests returns the requests as "kind target value origin".
func requests(a *authority.Authority, key plugin.Key) []string {
	var out []string
	for _, r := range a.Requests(key) {
		out = append(out, fmt.Sprintf("%s %s %s %s", r.Kind, r.Target, r.Value, r.Origin))
	}
	return out
}

func TestGrantAndRevoke(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	a, p := setup(t, s, s)
	wantEnv(t, a, echo)
	mustGrant(t, a, echo, env(t, "TZ"), env(t, "LANG"))
	wantEnv(t, a, echo, "LANG", "TZ")
	wantEnv(t, a, other)
	if changes, _ := p.told(); !cmp.Equal(changes, []change{{echo, nil, []string{"LANG", "TZ"}}}) {
		t.Errorf("told %v", changes)
	}

	again := env(t, "TZ")
	again.Actor = "uid:7"
	mustGrant(t, a, echo, again)
	if got := a.Grants(echo); len(got) != 2 || got[1].Actor != "uid:7" {
		t.Errorf("the same grant again: %+v, want it in place of the first", got)
	}
	a.Grants(echo)[0].Target = "altered"
	wantEnv(t, a, echo, "LANG", "TZ")

	g, err := a.Revoke(t.Context(), echo, policy.Env, "LANG")
	if err != nil || g.Target != "LANG" {
		t.Errorf("Revoke = %+v, %v", g, err)
	}
	wantEnv(t, a, echo, "TZ")
	for _, tt := range []struct {
		key    plugin.Key
		target string
	}{{echo, "LANG"}, {other, "TZ"}, {plugin.Key{Tenant: "default", ID: "none"}, "TZ"}} {
		_, err := a.Revoke(t.Context(), tt.key, policy.Env, tt.target)
		if f := fault.Of(err); !errdefs.IsNotFound(err) || f.Code != "not_granted" || f.Hint == "" {
			t.Errorf("revoking %s of %s: %v, want not_granted", tt.target, tt.key, err)
		}
	}

	// Another process finds the same.
	b := load(t, openStore(t, dir), p)
	wantEnv(t, b, echo, "TZ")
	if diff := cmp.Diff(a.Grants(echo), b.Grants(echo)); diff != "" {
		t.Errorf("after a restart: -before +after:\n%s", diff)
	}
}

func TestUnknownPluginMayNothing(t *testing.T) {
	s := openStore(t, t.TempDir())
	a, p := setup(t, s, s)
	none := plugin.Key{Tenant: "default", ID: "none"}
	if e := a.Effective(none); len(e.Granted)+len(e.Registered)+len(e.Hooks) != 0 || a.Grants(none) != nil || a.Requests(none) != nil {
		t.Errorf("a plugin that is not there may %+v", e)
	}
	if err := a.Grant(t.Context(), none, env(t, "TZ")); !errdefs.IsNotFound(err) {
		t.Errorf("granting to a plugin that is not there: %v", err)
	}
	wantEnv(t, a, none)
	if changes, _ := p.told(); changes != nil {
		t.Errorf("told %v of nothing", changes)
	}
}

func TestRefreshNarrows(t *testing.T) {
	s := openStore(t, t.TempDir())
	a, p := setup(t, s, s)
	mustGrant(t, a, echo, env(t, "TZ"), env(t, "LANG"))
	p.told()
	p.narrow(t, echo, `{"env": ["TZ"]}`)
	wantEnv(t, a, echo, "LANG", "TZ") // not before it is told
	a.Refresh(echo)
	wantEnv(t, a, echo, "TZ")
	if changes, _ := p.told(); !cmp.Equal(changes, []change{{echo, []string{"LANG", "TZ"}, []string{"TZ"}}}) {
		t.Errorf("told %v", changes)
	}
	if got := a.Grants(echo); len(got) != 2 {
		t.Errorf("the file took a grant back for good: %v", got)
	}

	// An edit that names more asks, and grants nothing.
	p.narrow(t, echo, `{"env": ["TZ", "LANG", "EDITOR"]}`)
	a.Refresh(echo)
	wantEnv(t, a, echo, "LANG", "TZ")
	if got := requests(a, echo); !slices.Contains(got, "env EDITOR  config") {
		t.Errorf("requests %q, want one for EDITOR", got)
	}
	// Narrowed before it is loaded.
	p.narrow(t, echo, `{"env": []}`)
	wantEnv(t, load(t, s, p), echo)
}

func TestRequests(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	a, p := setup(t, s, s)
	asked := []string{"registration tool:say  registration", "env TZ  manifest"}
	if got := requests(a, echo); !slices.Equal(got, asked) {
		t.Fatalf("requests %q, want %q", got, asked)
	}
	ask, err := policy.Tried("api.example.com", 443)
	if err != nil {
		t.Fatal(err)
	}
	if !a.Wish(echo, ask) || a.Wish(echo, ask) {
		t.Error("a wish is news once")
	}
	if got := requests(a, echo); len(got) != 3 || !slices.Contains(got, "network api.example.com:443  runtime") {
		t.Errorf("requests %q", got)
	}
	if got := requests(a, other); !slices.Equal(got, asked) {
		t.Errorf("the wish of one plugin is another's too: %q", got)
	}

	id := a.Requests(echo)[1].ID
	if r, ok := a.Request(echo, id); !ok || r.Kind != policy.Network {
		t.Errorf("Request(%s) = %+v, %v", id, r, ok)
	}
	if _, ok := a.Request(other, id); ok {
		t.Error("a request is found for another plugin")
	}
	if err := a.Deny(t.Context(), echo, id, "uid:0"); err != nil {
		t.Fatal(err)
	}
	a.Wish(echo, ask) // it tries again
	if got := requests(a, echo); !slices.Equal(got, asked) {
		t.Errorf("requests %q, want the denied one to stay away", got)
	}
	b := load(t, openStore(t, dir), p)
	b.Wish(echo, ask)
	if got := requests(b, echo); !slices.Equal(got, asked) {
		t.Errorf("requests %q after a restart, want the denied one to stay away", got)
	}
	mustGrant(t, a, echo, env(t, "TZ"))
	if got := requests(a, echo); !slices.Equal(got, asked[:1]) {
		t.Errorf("requests %q after the grant", got)
	}
	if err := a.Deny(t.Context(), plugin.Key{Tenant: "default", ID: "none"}, id, "uid:0"); !errdefs.IsNotFound(err) {
		t.Errorf("denying a plugin that is not there: %v", err)
	}
}

func TestWishesAreBounded(t *testing.T) {
	s := openStore(t, t.TempDir())
	a, _ := setup(t, s, s)
	for i := range 1000 {
		ask, err := policy.Tried(fmt.Sprintf("h%d.example.com", i), 443)
		if err != nil {
			t.Fatal(err)
		}
		a.Wish(echo, ask)
	}
	got := requests(a, echo)
	if len(got) != 2+64 || !slices.Contains(got, "network h999.example.com:443  runtime") || slices.Contains(got, "network h0.example.com:443  runtime") {
		t.Errorf("%d requests, want the newest 64 and two others", len(got))
	}
}

func TestAdoptAndForget(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	a, p := setup(t, s, s)
	ask, _ := policy.Tried("api.example.com", 443)
	a.Wish(echo, ask)
	mustGrant(t, a, echo, env(t, "LANG"))
	tool := grantOf(t, policy.Registration, "tool:say", "")
	err := a.Adopt(echo, []policy.Grant{tool}, func() error {
		return s.PutPluginWithGrants(t.Context(), p.plugins[echo], []policy.Grant{tool}, store.Consent{})
	})
	if err != nil {
		t.Fatal(err)
	}
	if e := a.Effective(echo); !e.MayRegister("tool", "say") || !slices.Equal(e.Env, []string{"LANG"}) {
		t.Errorf("an update leaves %+v", e)
	}
	if got := requests(a, echo); !slices.Equal(got, []string{"env TZ  manifest"}) {
		t.Errorf("requests %q, want those of the new version alone", got)
	}

	if err := s.DeletePlugin(t.Context(), echo); err != nil {
		t.Fatal(err)
	}
	a.Forget(echo)
	delete(p.plugins, echo)
	if wantEnv(t, a, echo); a.Grants(echo) != nil || a.Requests(echo) != nil {
		t.Error("a plugin that is gone has grants or requests")
	}
	if b := load(t, openStore(t, dir), p); b.Grants(echo) != nil {
		t.Errorf("a plugin that is gone has %v after a restart", b.Grants(echo))
	}
}

// refusing is a store on a disk that is full.
type refusing struct{ *store.Store }

var errFull = fmt.Errorf("disk full: %w", errdefs.ErrResourceExhausted)

func (refusing) PutGrants(context.Context, plugin.Key, []policy.Grant) error { return errFull }

func (refusing) DeleteGrant(context.Context, plugin.Key, policy.Kind, string) (bool, error) {
	return false, errFull
}

func (refusing) PutDenial(context.Context, plugin.Key, string, string, time.Time) error {
	return errFull
}

// What is not on disk is not in force, and is told to nobody.
func TestNothingIsAcknowledgedBeforeItIsOnDisk(t *testing.T) {
	s := openStore(t, t.TempDir())
	a, _ := setup(t, s, s)
	mustGrant(t, a, echo, env(t, "LANG"))
	full, p := setup(t, refusing{s}, s)
	if err := full.Grant(t.Context(), echo, env(t, "TZ")); !errors.Is(err, errFull) {
		t.Errorf("Grant = %v", err)
	}
	if _, err := full.Revoke(t.Context(), echo, policy.Env, "LANG"); !errors.Is(err, errFull) {
		t.Errorf("Revoke = %v", err)
	}
	before := requests(full, echo)
	if err := full.Deny(t.Context(), echo, full.Requests(echo)[0].ID, "uid:0"); !errors.Is(err, errFull) {
		t.Errorf("Deny = %v", err)
	}
	wantEnv(t, full, echo, "LANG")
	if after := requests(full, echo); !slices.Equal(before, after) {
		t.Errorf("requests %q, want %q", after, before)
	}
	if changes, _ := p.told(); changes != nil {
		t.Errorf("told %v", changes)
	}
}

// Whoever is told of a change may ask about the plugin.
func TestChangedMayAsk(t *testing.T) {
	s := openStore(t, t.TempDir())
	a, p := setup(t, s, s)
	var seen [][]string
	p.onChange = func(key plugin.Key) {
		seen = append(seen, a.Effective(key).Env)
		a.Requests(key)
		a.Grants(key)
	}
	mustGrant(t, a, echo, env(t, "TZ"))
	if !cmp.Equal(seen, [][]string{{"TZ"}}) {
		t.Errorf("saw %v", seen)
	}
}

// Whatever happens at once, what is in memory is what is on disk.
func TestConcurrentChanges(t *testing.T) {
	s := openStore(t, t.TempDir())
	a, p := setup(t, s, s)
	var running sync.WaitGroup
	for worker := range 4 {
		running.Go(func() {
			for i := range 12 {
				g := env(t, fmt.Sprintf("V%d", (worker+i)%5))
				if i%3 == 2 {
					if _, err := a.Revoke(t.Context(), echo, policy.Env, g.Target); err != nil && !errdefs.IsNotFound(err) {
						t.Error(err)
					}
				} else if err := a.Grant(t.Context(), echo, g); err != nil {
					t.Error(err)
				}
				a.Refresh(echo)
				a.Effective(echo)
				a.Requests(echo)
			}
		})
	}
	running.Wait()
	onDisk, err := s.Grants(t.Context(), echo)
	if err != nil {
		t.Fatal(err)
	}
	names := func(list []policy.Grant) []string {
		out := []string{}
		for _, g := range list {
			out = append(out, g.Target)
		}
		slices.Sort(out)
		return out
	}
	inMemory := names(a.Grants(echo))
	if !slices.Equal(names(onDisk), inMemory) || !slices.Equal(inMemory, append([]string{}, a.Effective(echo).Env...)) {
		t.Errorf("on disk %v, in memory %v, in force %v", names(onDisk), inMemory, a.Effective(echo).Env)
	}
	changes, _ := p.told()
	for i := 1; i < len(changes); i++ {
		if !slices.Equal(changes[i].Before, changes[i-1].After) {
			t.Fatalf("change %d begins with %v, the one before ended with %v", i, changes[i].Before, changes[i-1].After)
		}
	}
}
