package authority_test

import (
	"errors"
	"testing"
	"time"

	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
	"github.com/ocmt/ocmt/orchestrator/store"
)

// What is revoked while an install grants it is revoked, on disk and in memory.
func TestRevokeDuringAnInstall(t *testing.T) {
	s := openStore(t, t.TempDir())
	a, p := setup(t, s, s)
	tz := []policy.Grant{env(t, "TZ")}
	mustGrant(t, a, echo, tz...)
	revoked := make(chan error, 1)
	err := a.Adopt(echo, tz, func() error {
		if err := s.PutPluginWithGrants(t.Context(), p.plugins[echo], tz, store.Consent{}); err != nil {
			return err
		}
		go func() {
			_, err := a.Revoke(t.Context(), echo, policy.Env, "TZ")
			revoked <- err
		}()
		time.Sleep(50 * time.Millisecond) // it would come in between here
		return nil
	})
	if err := errors.Join(err, <-revoked); err != nil {
		t.Fatal(err)
	}
	wantEnv(t, a, echo)
	if got, err := s.Grants(t.Context(), echo); err != nil || len(got) != 0 {
		t.Errorf("on disk: %v, %v", got, err)
	}
	failed := a.Adopt(echo, tz, func() error { return errFull })
	if wantEnv(t, a, echo); !errors.Is(failed, errFull) {
		t.Errorf("an install that is not on disk: %v", failed)
	}
}

// A change that is under way when a plugin is uninstalled comes before that,
// and tells nothing of the plugin that is installed next.
func TestForgetWaits(t *testing.T) {
	s := openStore(t, t.TempDir())
	h := held{s, make(chan struct{})}
	a, p := setup(t, h, s)
	granted, forgotten := make(chan error, 1), make(chan struct{})
	p.onChange = func(plugin.Key) {
		select {
		case <-forgotten:
			t.Error("told of a change after Forget")
		default:
		}
	}
	go func() { granted <- a.Grant(t.Context(), echo, env(t, "TZ")) }()
	time.Sleep(20 * time.Millisecond) // until it writes
	go func() { a.Forget(echo); close(forgotten) }()
	time.Sleep(20 * time.Millisecond)
	h.wait <- struct{}{}
	if err := <-granted; err != nil {
		t.Fatal(err)
	}
	<-forgotten
	delete(p.plugins, echo)
	a.Refresh(echo)
	ask, _ := policy.Tried("api.example.com", 443)
	if a.Wish(echo, ask) || a.Grants(echo) != nil || len(a.Effective(echo).Granted) != 0 {
		t.Error("something is known of a plugin that is gone")
	}
}
