package authority_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
	"github.com/ocmt/ocmt/orchestrator/store"
)

// held is a store whose every write of grants waits to be let go.
type held struct {
	*store.Store
	wait chan struct{}
}

func (h held) PutGrants(ctx context.Context, key plugin.Key, grants []policy.Grant) error {
	<-h.wait
	return h.Store.PutGrants(ctx, key, grants)
}

func until(g policy.Grant, d time.Duration) policy.Grant {
	g.ExpiresAt = g.At.Add(d)
	return g
}

func TestExpiry(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, dir)
		a, p := setup(t, s, s)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); a.Run(ctx) }()

		mustGrant(t, a, echo, until(env(t, "LANG"), time.Hour), env(t, "TZ"))
		mustGrant(t, a, other, until(grantOf(t, policy.Network, "a.example.com:443", ""), time.Minute))
		p.told()
		time.Sleep(time.Minute - time.Second)
		synctest.Wait()
		if len(a.Effective(other).Network) != 1 {
			t.Error("it ended too early")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if _, expired := p.told(); len(a.Effective(other).Network) != 0 || !slices.Equal(expired, []string{"echo network a.example.com:443"}) {
			t.Errorf("a minute later: %v is in force, told of %v", a.Effective(other).Network, expired)
		}
		wantEnv(t, a, echo, "LANG", "TZ")

		mustGrant(t, a, echo, until(env(t, "EDITOR"), time.Second)) // sooner than what is waited for
		time.Sleep(time.Second)
		synctest.Wait()
		wantEnv(t, a, echo, "LANG", "TZ")
		time.Sleep(time.Hour)
		synctest.Wait()
		wantEnv(t, a, echo, "TZ")
		if _, expired := p.told(); !slices.Equal(expired, []string{"echo env EDITOR", "echo env LANG"}) {
			t.Errorf("told of %v", expired)
		}
		if got, err := s.Grants(t.Context(), echo); err != nil || len(got) != 1 || got[0].Target != "TZ" {
			t.Errorf("on disk: %v, %v", got, err)
		}
		cancel()
		<-done
		s.Close()
	})
}

// A grant that ended while no daemon ran is not in force at any moment of the
// next one, and is told of.
func TestExpiredBeforeTheStart(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, dir)
		a, p := setup(t, s, s)
		mustGrant(t, a, echo, until(env(t, "TZ"), time.Minute))
		p.told()
		time.Sleep(time.Hour)
		b := load(t, s, p)
		wantEnv(t, b, echo)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); b.Run(ctx) }()
		synctest.Wait()
		if _, expired := p.told(); !slices.Equal(expired, []string{"echo env TZ"}) {
			t.Errorf("told of %v", expired)
		}
		if got, err := s.Grants(t.Context(), echo); err != nil || len(got) != 0 {
			t.Errorf("on disk: %v, %v", got, err)
		}
		cancel()
		<-done
		s.Close()
	})
}

// A grant that is renewed at the moment when it ends is not lost. The clock is
// the real one: a goroutine that waits for a lock keeps a synthetic one from
// going on.
func TestRenewedWhileItEnds(t *testing.T) {
	s := openStore(t, t.TempDir())
	h := held{s, make(chan struct{}, 1)}
	a, p := setup(t, h, s)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); a.Run(ctx) }()
	h.wait <- struct{}{}
	mustGrant(t, a, echo, until(env(t, "TZ"), 200*time.Millisecond))

	renewed := make(chan error, 1)
	go func() { renewed <- a.Grant(t.Context(), echo, env(t, "TZ")) }()
	time.Sleep(400 * time.Millisecond) // the first one ends meanwhile
	h.wait <- struct{}{}
	if err := <-renewed; err != nil {
		t.Error(err)
	}
	time.Sleep(100 * time.Millisecond) // for what waits for its turn
	wantEnv(t, a, echo, "TZ")
	if got, err := s.Grants(t.Context(), echo); err != nil || len(got) != 1 {
		t.Errorf("on disk: %v, %v, want the new one", got, err)
	}
	if _, expired := p.told(); len(expired) != 0 {
		t.Errorf("told of the end of %v", expired)
	}
	cancel()
	<-done
}

// A store that cannot write keeps no grant in force.
func TestExpiryWithoutADisk(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, dir)
		first, _ := setup(t, s, s)
		mustGrant(t, first, echo, until(env(t, "TZ"), time.Minute))
		a, p := setup(t, refusing{s}, s)
		wantEnv(t, a, echo, "TZ")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); a.Run(ctx) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		wantEnv(t, a, echo)
		if _, expired := p.told(); !slices.Equal(expired, []string{"echo env TZ"}) {
			t.Errorf("told of %v", expired)
		}
		cancel()
		<-done
		s.Close()
	})
}

// A grant is out of force before anything that may wait for a disk.
func TestExpiryDoesNotWaitForTheStore(t *testing.T) {
	s := openStore(t, t.TempDir())
	first, _ := setup(t, s, s)
	mustGrant(t, first, echo, until(env(t, "TZ"), 50*time.Millisecond))
	slow := stuck{s, make(chan struct{})}
	a, _ := setup(t, slow, s)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); a.Run(ctx) }()
	for end := time.Now().Add(5 * time.Second); len(a.Effective(echo).Env) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it is in force while the store hangs")
		}
	}
	close(slow.wait)
	cancel()
	<-done
}

// stuck is a store that does not get to removing a grant.
type stuck struct {
	*store.Store
	wait chan struct{}
}

func (s stuck) DeleteGrant(ctx context.Context, key plugin.Key, kind policy.Kind, target string) (bool, error) {
	<-s.wait
	return s.Store.DeleteGrant(ctx, key, kind, target)
}
