package daemon

import (
	"bytes"
	"context"
	"crypto/sha256"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/audit"
	"github.com/ocmt/ocmt/orchestrator/home"
	"github.com/ocmt/ocmt/orchestrator/store"
)

// withTokens returns a daemon that has what tokens need, and no engine.
func withTokens(t *testing.T, dir string, opts Options) *Daemon {
	t.Helper()
	opts.Home = dir
	d := &Daemon{opts: opts, logger: slog.New(slog.DiscardHandler), started: time.Now()}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, step := range []func(context.Context) error{d.openHome, d.openAudit, d.openTokens} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func by(actor string, t *testing.T) context.Context {
	return httpapi.WithCaller(t.Context(), httpapi.Caller{Actor: actor, Access: httpapi.AccessAdmin})
}

func ended(c httpapi.Caller) bool {
	select {
	case <-c.Ended:
		return true
	default:
		return false
	}
}

func TestTokenLife(t *testing.T) {
	dir := t.TempDir()
	d := withTokens(t, dir, Options{})
	api := tokenAPI{d}
	call, err := api.CreateToken(by("uid:7", t), v1.CreateTokenRequest{Access: v1.TokenCall, Tenant: "acme", Name: "a\x1bgent"})
	if err != nil {
		t.Fatal(err)
	}
	admin, err := api.CreateToken(by("token:"+call.ID, t), v1.CreateTokenRequest{Access: v1.TokenAdmin, ForSeconds: 3600})
	if err != nil {
		t.Fatal(err)
	}
	for _, made := range []v1.CreatedToken{call, admin} {
		if !regexp.MustCompile(`^ocmt_[A-Za-z0-9_-]{43}$`).MatchString(made.Secret) || !regexp.MustCompile(`^[a-z2-7]{12}$`).MatchString(made.ID) {
			t.Errorf("got %q, %q", made.Secret, made.ID)
		}
	}
	if call.Secret == admin.Secret || call.ID == admin.ID || call.CreatedBy != "uid:7" || call.ExpiresAt != nil || strings.Contains(call.Name, "\x1b") ||
		!admin.ExpiresAt.Equal(admin.CreatedAt.Add(time.Hour)) {
		t.Errorf("got %+v and %+v", call, admin)
	}
	for what, want := range map[string]struct {
		token  string
		caller httpapi.Caller
	}{
		"call":  {call.Secret, httpapi.Caller{Actor: "token:" + call.ID, Access: httpapi.AccessCall, Tenant: "acme"}},
		"admin": {admin.Secret, httpapi.Caller{Actor: "token:" + admin.ID, Access: httpapi.AccessAdmin}},
	} {
		got, err := d.tokens.Lookup(t.Context(), want.token)
		if ended(got) {
			t.Errorf("%s: it has ended", what)
		}
		got.Ended = nil
		if err != nil || got != want.caller {
			t.Errorf("%s: %+v, %v, want %+v", what, got, err, want.caller)
		}
	}
	hash := sha256.Sum256([]byte(call.Secret))
	for _, no := range []string{"", "ocmt_", call.ID, call.Secret[:len(call.Secret)-1], call.Secret + " ", string(hash[:])} {
		if got, err := d.tokens.Lookup(t.Context(), no); !errdefs.IsNotFound(err) || got != (httpapi.Caller{}) {
			t.Errorf("token %q: %+v, %v, want NotFound", no, got, err)
		}
	}
	for tenant, want := range map[string][]string{"": {call.ID, admin.ID}, "acme": {call.ID, admin.ID}, "default": {admin.ID}} {
		var got []string
		list, err := api.Tokens(t.Context(), tenant)
		for _, token := range list {
			got = append(got, token.ID)
			if token.LastUsedAt == nil {
				t.Errorf("the use of %s is not noted", token.ID)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("tokens of %q: %v, -want +got:\n%s", tenant, err, diff)
		}
	}

	open, err := d.tokens.Lookup(t.Context(), call.Secret)
	if err != nil {
		t.Fatal(err)
	}
	if token, err := api.RevokeToken(by("uid:7", t), call.ID); err != nil || token.ID != call.ID || token.Tenant != "acme" {
		t.Errorf("revoke: %+v, %v", token, err)
	}
	if !ended(open) {
		t.Error("what the revoked token began goes on")
	}
	if _, err := d.tokens.Lookup(t.Context(), call.Secret); !errdefs.IsNotFound(err) {
		t.Errorf("a revoked token: %v, want NotFound", err)
	}
	if _, err := api.RevokeToken(by("uid:7", t), call.ID); !errdefs.IsNotFound(err) {
		t.Errorf("revoked again: %v, want NotFound", err)
	}
	wantTokenRecords(t, d, []string{
		"acme uid:7 token.create begun " + call.ID, "acme uid:7 token.create done " + call.ID,
		" token:" + call.ID + " token.create begun " + admin.ID, " token:" + call.ID + " token.create done " + admin.ID,
		"acme uid:7 token.revoke begun " + call.ID, "acme uid:7 token.revoke done " + call.ID,
	})
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	wantNowhere(t, dir, call.Secret, admin.Secret)

	again := withTokens(t, dir, Options{})
	if _, err := again.tokens.Lookup(t.Context(), admin.Secret); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if _, err := again.tokens.Lookup(t.Context(), call.Secret); !errdefs.IsNotFound(err) {
		t.Errorf("a revoked token after a restart: %v, want NotFound", err)
	}
}

func wantTokenRecords(t *testing.T, d *Daemon, want []string) {
	t.Helper()
	var got []string
	err := audit.Read(t.Context(), d.home.Audit(), audit.ReadOptions{}, func(e audit.Entry) error {
		if strings.HasPrefix(e.Action, "token.") {
			id, _, _ := strings.Cut(e.Target, " ")
			got = append(got, strings.Join([]string{e.Tenant, e.Actor, e.Action, e.Outcome, id}, " "))
		}
		return nil
	})
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("audit records: %v, -want +got:\n%s", err, diff)
	}
}

// wantNowhere checks that no file of the home holds a secret.
func wantNowhere(t *testing.T, dir string, secrets ...string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		files++
		text, err := os.ReadFile(path)
		for _, secret := range secrets {
			if bytes.Contains(text, []byte(secret)) || bytes.Contains(text, []byte(strings.TrimPrefix(secret, tokenPrefix))) {
				t.Errorf("%s holds a token", path)
			}
		}
		return err
	})
	if err != nil || files == 0 {
		t.Errorf("%d files, %v", files, err)
	}
}

func TestTokenTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := home.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		s, err := store.Open(t.Context(), h.DB())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		k, err := loadTokens(t.Context(), s, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now().UTC().Round(0)
		token := store.Token{ID: "x", Hash: sha256.Sum256([]byte("x")), Access: store.TokenAdmin, CreatedAt: began, ExpiresAt: began.Add(time.Hour)}
		if err := k.add(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		var first httpapi.Caller
		for _, tc := range []struct{ after, noted time.Duration }{ // since began
			{0, 0}, {59 * time.Second, 0}, {time.Minute, time.Minute}, {119 * time.Second, time.Minute}, {10 * time.Minute, 10 * time.Minute},
		} {
			time.Sleep(time.Until(began.Add(tc.after)))
			caller, err := k.Lookup(t.Context(), "x")
			if err != nil {
				t.Fatal(err)
			}
			if tc.after == 0 {
				first = caller
			}
			list, err := s.Tokens(t.Context())
			if err != nil || len(list) != 1 || !list[0].UsedAt.Equal(began.Add(tc.noted)) {
				t.Errorf("after %s: %+v, %v, want a use after %s", tc.after, list, err, tc.noted)
			}
		}
		time.Sleep(time.Until(token.ExpiresAt) - 1)
		if _, err := k.Lookup(t.Context(), "x"); err != nil || ended(first) {
			t.Errorf("before it expires: %v, ended: %v", err, ended(first))
		}
		<-first.Ended
		if now := time.Now(); !now.Equal(token.ExpiresAt) {
			t.Errorf("it ended at %s, want %s", now, token.ExpiresAt)
		}
		loaded, err := loadTokens(t.Context(), s, k.log)
		if err != nil {
			t.Fatal(err)
		}
		for name, k := range map[string]*tokens{"held": k, "loaded": loaded} {
			if _, err := k.Lookup(t.Context(), "x"); !errdefs.IsNotFound(err) {
				t.Errorf("%s: %v, want NotFound after it expired", name, err)
			}
			if list := k.list("acme"); len(list) != 1 {
				t.Errorf("%s: it is not listed any more: %v", name, list)
			}
		}
	})
}

// A token that cannot be forgotten is refused none the less, and can be
// revoked again.
func TestRevokeWithoutStore(t *testing.T) {
	d := withTokens(t, t.TempDir(), Options{})
	made, err := tokenAPI{d}.CreateToken(t.Context(), v1.CreateTokenRequest{Access: v1.TokenAdmin})
	if err != nil {
		t.Fatal(err)
	}
	d.store.Close()
	for range 2 {
		if _, err := (tokenAPI{d}).RevokeToken(t.Context(), made.ID); err == nil || errdefs.IsNotFound(err) {
			t.Errorf("revoke: %v, want the store's error", err)
		}
		if _, err := d.tokens.Lookup(t.Context(), made.Secret); !errdefs.IsNotFound(err) {
			t.Errorf("lookup: %v, want NotFound", err)
		}
	}
	if _, err := (tokenAPI{d}).CreateToken(t.Context(), v1.CreateTokenRequest{Access: v1.TokenAdmin}); err == nil {
		t.Error("a token that is not recorded was made")
	}
	if list := d.tokens.list(""); len(list) != 1 {
		t.Errorf("tokens in force: %v", list)
	}
}

// Nothing is created that the audit log does not hold.
func TestTokensNeedTheAuditLog(t *testing.T) {
	d := withTokens(t, t.TempDir(), Options{})
	d.audit.Close()
	d.undo = d.undo[:2] // the lock and the store: the rest would be recorded
	if _, err := (tokenAPI{d}).CreateToken(t.Context(), v1.CreateTokenRequest{Access: v1.TokenAdmin}); !errdefs.IsUnavailable(err) {
		t.Errorf("create: %v, want Unavailable", err)
	}
	if list, err := d.store.Tokens(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("tokens: %v, %v", list, err)
	}
}

func TestOpenTokensRefusesABadCertificate(t *testing.T) {
	d := &Daemon{opts: Options{Home: t.TempDir(), Listen: "127.0.0.1:0", TLSCert: "/nonexistent", TLSKey: "/nonexistent"}, logger: slog.New(slog.DiscardHandler)}
	if err := d.openHome(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.openTokens(t.Context()); !errdefs.IsInvalidArgument(err) || d.remote != nil {
		t.Errorf("got %v, %v, want InvalidArgument", err, d.remote)
	}
}

func TestEveryNetwork(t *testing.T) {
	for ip, want := range map[string]bool{"127.0.0.1": false, "::1": false, "192.0.2.1": false, "0.0.0.0": true, "::": true, "": true} {
		if got := everyNetwork(&net.TCPAddr{IP: net.ParseIP(ip)}); got != want {
			t.Errorf("everyNetwork(%q) = %v, want %v", ip, got, want)
		}
	}
}
