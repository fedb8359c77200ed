package store

import (
	"crypto/sha256"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

func token(id, tenant string) Token {
	t := Token{
		ID: id, Hash: sha256.Sum256([]byte(id)), Name: "the " + id, Access: TokenCall, Tenant: tenant,
		CreatedBy: "uid:7", CreatedAt: grantedAt,
	}
	if tenant == "" {
		t.Access = TokenAdmin
	}
	return t
}

func wantTokens(t *testing.T, s *Store, want ...Token) {
	t.Helper()
	got, err := s.Tokens(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(got) == 0 {
		got = nil
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tokens: -want +got:\n%s", diff)
	}
}

func TestTokens(t *testing.T) {
	s, ctx := open(t), t.Context()
	wantTokens(t, s)
	later, ends, admin := token("a", "acme"), token("c", "default"), token("b", "")
	for _, tok := range []*Token{&ends, &admin} { // as text, the fraction comes before the whole second
		tok.CreatedAt = grantedAt.Truncate(time.Second)
	}
	ends.ExpiresAt = grantedAt.Add(time.Hour)
	for _, tok := range []Token{later, ends, admin} {
		if err := s.PutToken(ctx, tok); err != nil {
			t.Fatal(err)
		}
	}
	wantTokens(t, s, admin, ends, later)

	ends.UsedAt = grantedAt.Add(time.Minute)
	for _, id := range []string{ends.ID, "none"} {
		if err := s.UseToken(ctx, id, ends.UsedAt); err != nil {
			t.Fatal(err)
		}
	}
	wantTokens(t, s, admin, ends, later)
	for _, want := range []bool{true, false} {
		if was, err := s.DeleteToken(ctx, admin.ID); err != nil || was != want {
			t.Errorf("DeleteToken = %v, %v, want %v", was, err, want)
		}
	}
	wantTokens(t, s, ends, later)
}

func TestPutTokenRefuses(t *testing.T) {
	s, ctx := open(t), t.Context()
	kept := token("kept", "acme")
	if err := s.PutToken(ctx, kept); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Token){
		"no access":             func(t *Token) { t.Access = "" },
		"another access":        func(t *Token) { t.Access = "root" },
		"an operator's tenant":  func(t *Token) { t.Access = TokenAdmin },
		"a caller of no tenant": func(t *Token) { t.Tenant = "" },
		"no tenant's name":      func(t *Token) { t.Tenant = "A b" },
	} {
		tok := token("new", "acme")
		change(&tok)
		if err := s.PutToken(ctx, tok); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v, want InvalidArgument", name, err)
		}
	}
	same := token("new", "acme")
	same.Hash = kept.Hash
	for name, tok := range map[string]Token{"the same id": kept, "the same token": same} {
		if err := s.PutToken(ctx, tok); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	wantTokens(t, s, kept)
}

// A row that another hand wrote gives nobody access.
func TestForeignTokens(t *testing.T) {
	const insert = `INSERT INTO tokens (id, hash, name, access, tenant, created_by, created_at, expires_at, used_at) VALUES `
	path := seed(t)
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for name, row := range map[string]string{
		"another access":       `('x', zeroblob(32), '', 'root', 'acme', '', '', '', '')`,
		"a caller of all":      `('x', zeroblob(32), '', 'call', '', '', '', '', '')`,
		"an operator of one":   `('x', zeroblob(32), '', 'admin', 'acme', '', '', '', '')`,
		"the hash of too much": `('x', zeroblob(33), '', 'admin', '', '', '', '', '')`,
		"no hash":              `('x', x'', '', 'admin', '', '', '', '', '')`,
	} {
		if _, err := s.write.ExecContext(t.Context(), insert+row); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	execRaw(t, path, insert+`('x', zeroblob(32), '', 'admin', '', '', '', 'never', '')`)
	if got, err := s.Tokens(t.Context()); !errdefs.IsDataLoss(err) || got != nil {
		t.Errorf("Tokens = %v, %v, want DataLoss: a token whose end is unknown", got, err)
	}
	execRaw(t, path, `PRAGMA ignore_check_constraints = on; UPDATE tokens SET expires_at = '', hash = x'00'`)
	if got, err := s.Tokens(t.Context()); !errdefs.IsDataLoss(err) || got != nil {
		t.Errorf("Tokens = %v, %v, want DataLoss: a token whose hash is cut", got, err)
	}
}
