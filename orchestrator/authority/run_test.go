package authority_test

import (
	"slices"
	"testing"

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

	a.AllowRun(echo, grantOf(t, policy.Network, "api.example.com:443", ""))
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
	a.EndRun(echo)
	a.EndRun(echo)
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
