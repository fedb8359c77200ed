package authority_test

import (
	"slices"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/policy"
)

// TestRunGrants allows a destination for one run: it is in force at once, is
// no request any more, is on no disk, and is a request again when the run ends.
func TestRunGrants(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	a, p := setup(t, s, s)
	ask, err := policy.Tried("api.example.com", 443)
	if err != nil {
		t.Fatal(err)
	}
	a.Wish(echo, ask)
	const request = "network api.example.com:443  runtime"

	a.AllowRun(echo, "one", grantOf(t, policy.Network, "api.example.com:443", ""))
	if got := a.Effective(echo).Network; len(got) != 1 || got[0].Host != "api.example.com" {
		t.Errorf("in force: %+v", got)
	}
	if got := a.RunGrants(echo); len(got) != 1 || got[0].Origin != policy.OriginRun {
		t.Errorf("run grants %+v", got)
	}
	if got := requests(a, echo); slices.Contains(got, request) {
		t.Errorf("requests %q while it is allowed", got)
	}
	if got := a.Grants(echo); len(got) != 0 {
		t.Errorf("it was granted for good: %+v", got)
	}
	if got := a.Effective(other).Network; len(got) != 0 {
		t.Errorf("another plugin may reach %+v", got)
	}
	if got := load(t, openStore(t, dir), p).Effective(echo).Network; len(got) != 0 {
		t.Errorf("after a restart: %+v", got)
	}

	p.told()
	a.EndRun(echo, "another")
	a.EndRun(echo, "one")
	a.EndRun(echo, "one")
	if changes, _ := p.told(); len(changes) != 1 {
		t.Errorf("%d changes were told at the end, want 1", len(changes))
	}
	if got := a.Effective(echo).Network; len(got) != 0 {
		t.Errorf("after the run: %+v", got)
	}
	if got := requests(a, echo); !slices.Contains(got, request) {
		t.Errorf("requests %q after the run", got)
	}
}

// TestRunGrantsEndOtherwise takes back what is allowed for one run: by a revoke,
// by a grant for good about the same, and by a run that comes after.
func TestRunGrantsEndOtherwise(t *testing.T) {
	s := openStore(t, t.TempDir())
	a, _ := setup(t, s, s)
	const target = "api.example.com:443"
	once := grantOf(t, policy.Network, target, "")
	reached := func(when string, want int) {
		t.Helper()
		if got := a.Effective(echo).Network; len(got) != want {
			t.Errorf("%s it may reach %+v", when, got)
		}
	}
	a.AllowRun(echo, "one", once)
	g, err := a.Revoke(t.Context(), echo, policy.Network, target)
	if err != nil || g.Origin != policy.OriginRun {
		t.Errorf("Revoke = %+v, %v", g, err)
	}
	reached("after the revoke", 0)
	if _, err := a.Revoke(t.Context(), echo, policy.Network, target); !errdefs.IsNotFound(err) {
		t.Errorf("once more: %v", err)
	}

	if err := a.Grant(t.Context(), echo, grantOf(t, policy.Network, target, "rules=GET /v1")); err != nil {
		t.Fatal(err)
	}
	a.AllowRun(echo, "one", once)
	if _, err := a.Revoke(t.Context(), echo, policy.Network, target); err != nil {
		t.Fatal(err)
	}
	reached("after the revoke of both", 0)

	a.AllowRun(echo, "one", once)
	if err := a.Grant(t.Context(), echo, grantOf(t, policy.Network, target, "rules=GET /v1")); err != nil {
		t.Fatal(err)
	}
	if got := a.Effective(echo).Network; len(got) != 1 || len(got[0].Requests) != 1 || len(a.RunGrants(echo)) != 0 {
		t.Errorf("after a narrower grant for good: %+v, for the run %+v", got, a.RunGrants(echo))
	}

	a.AllowRun(echo, "one", grantOf(t, policy.Network, "one.example.com:443", ""))
	a.AllowRun(echo, "two", grantOf(t, policy.Network, "two.example.com:443", ""))
	if got := a.RunGrants(echo); len(got) != 1 || got[0].Target != "two.example.com:443" {
		t.Errorf("for the second run: %+v", got)
	}
	a.EndRun(echo, "one")
	reached("when the first run ends late", 2)
	a.EndRun(echo, "")
	reached("when any ends", 1)
}
