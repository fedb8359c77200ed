package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// What a token lets its holder do.
const (
	TokenAdmin = "admin" // everything, of every tenant
	TokenCall  = "call"  // read and call, of one tenant
)

// Token is a token of callers over TLS. The token itself is kept nowhere.
type Token struct {
	ID     string
	Hash   [sha256.Size]byte // of the token
	Name   string            // a person's own words
	Access string            // TokenAdmin or TokenCall
	Tenant string            // of TokenCall; "" of TokenAdmin

	CreatedBy string
	CreatedAt time.Time
	ExpiresAt time.Time // zero is never
	UsedAt    time.Time // zero is never
}

// PutToken records a new token. InvalidArgument: its access or its tenant is
// none.
func (s *Store) PutToken(ctx context.Context, t Token) error {
	switch t.Access {
	case TokenAdmin:
		if t.Tenant != "" {
			return fmt.Errorf("cannot record a token of access %s for a tenant: %w", t.Access, errdefs.ErrInvalidArgument)
		}
	case TokenCall:
		if err := plugin.CheckTenant(t.Tenant); err != nil {
			return fmt.Errorf("cannot record a token: %w", err)
		}
	default:
		return fmt.Errorf("cannot record a token of access %q: %w", t.Access, errdefs.ErrInvalidArgument)
	}
	_, err := s.write.ExecContext(ctx,
		`INSERT INTO tokens (id, hash, name, access, tenant, created_by, created_at, expires_at, used_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		t.ID, t.Hash[:], t.Name, t.Access, t.Tenant, t.CreatedBy, formatTime(t.CreatedAt), formatTime(t.ExpiresAt), formatTime(t.UsedAt))
	return classify(err, "record a token")
}

// DeleteToken forgets a token and reports whether there was one.
func (s *Store) DeleteToken(ctx context.Context, id string) (bool, error) {
	res, err := s.write.ExecContext(ctx, `DELETE FROM tokens WHERE id = ?`, id)
	if err != nil {
		return false, classify(err, "forget a token")
	}
	n, err := res.RowsAffected()
	return n > 0, classify(err, "forget a token")
}

// UseToken notes when a token was used last, if it is still there.
func (s *Store) UseToken(ctx context.Context, id string, at time.Time) error {
	_, err := s.write.ExecContext(ctx, `UPDATE tokens SET used_at = ? WHERE id = ?`, formatTime(at), id)
	return classify(err, "note that a token was used")
}

// Tokens returns the tokens of all tenants, expired ones too, the oldest first.
func (s *Store) Tokens(ctx context.Context) ([]Token, error) {
	type row struct {
		token             Token
		hash              []byte
		created, end, use string
	}
	rows, err := queryAll(ctx, s.read, func(rows *sql.Rows, r *row) error {
		t := &r.token
		return rows.Scan(&t.ID, &r.hash, &t.Name, &t.Access, &t.Tenant, &t.CreatedBy, &r.created, &r.end, &r.use)
	}, `SELECT id, hash, name, access, tenant, created_by, created_at, expires_at, used_at FROM tokens ORDER BY id`)
	if err != nil {
		return nil, err
	}
	list := make([]Token, len(rows))
	for i, r := range rows {
		t := r.token
		if copy(t.Hash[:], r.hash) != len(t.Hash) {
			return nil, fault.New(errdefs.ErrDataLoss, "state_corrupt", "cannot decode token %s in the state database", t.ID).WithHint("%s", corruptHint)
		}
		var errs [3]error
		t.CreatedAt, errs[0] = parseTime(r.created)
		t.ExpiresAt, errs[1] = parseTime(r.end)
		t.UsedAt, errs[2] = parseTime(r.use)
		if err := errors.Join(errs[:]...); err != nil {
			return nil, err
		}
		list[i] = t
	}
	slices.SortStableFunc(list, func(a, b Token) int { return a.CreatedAt.Compare(b.CreatedAt) }) // as texts, fractions would be wrong
	return list, nil
}
