package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
)

// Consent says that somebody accepted a review.
type Consent struct {
	Digest string // of what was shown
	Actor  string
	At     time.Time
}

// PutPluginWithGrants records p as PutPlugin does, the grants as PutGrants
// does, and the consent in place of the one before: all of them or nothing.
func (s *Store) PutPluginWithGrants(ctx context.Context, p plugin.Installed, grants []policy.Grant, consent Consent) error {
	doc, err := encodePlugin(p)
	if err != nil {
		return err
	}
	return s.transact(ctx, "record plugin "+p.Key.String(), func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, putPlugin, p.Key.Tenant, p.Key.ID, p.Descriptor.Name, p.Payload.Digest, doc); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx,
			`INSERT INTO reviews (tenant, id, digest, actor, accepted_at) VALUES (?, ?, ?, ?, ?)
			 ON CONFLICT (tenant, id) DO UPDATE SET digest = excluded.digest, actor = excluded.actor, accepted_at = excluded.accepted_at`,
			p.Key.Tenant, p.Key.ID, consent.Digest, consent.Actor, formatTime(consent.At)); err != nil {
			return err
		}
		return putGrants(ctx, tx, p.Key, grants)
	})
}

// Consent returns the review that the installed version was accepted with,
// the zero Consent if there is none.
func (s *Store) Consent(ctx context.Context, key plugin.Key) (Consent, error) {
	var c Consent
	var at string
	err := s.read.QueryRowContext(ctx, `SELECT digest, actor, accepted_at FROM reviews WHERE tenant = ? AND id = ?`, key.Tenant, key.ID).
		Scan(&c.Digest, &c.Actor, &at)
	if errors.Is(err, sql.ErrNoRows) {
		return Consent{}, nil
	}
	if err != nil {
		return Consent{}, classify(err, "read the consent to "+key.String())
	}
	c.At, err = parseTime(at)
	return c, err
}

// PutGrants records grants of an installed plugin, each in place of the one
// of the same kind and target: all of them or none. NotFound if the plugin is
// not installed.
func (s *Store) PutGrants(ctx context.Context, key plugin.Key, grants []policy.Grant) error {
	return s.transact(ctx, "record grants of "+key.String(), func(tx *sql.Tx) error {
		if err := mustExist(ctx, tx, key); err != nil {
			return err
		}
		return putGrants(ctx, tx, key, grants)
	})
}

func putGrants(ctx context.Context, tx *sql.Tx, key plugin.Key, grants []policy.Grant) error {
	for _, g := range grants {
		_, err := tx.ExecContext(ctx,
			`INSERT OR REPLACE INTO grants (tenant, id, kind, target, value, origin, actor, granted_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			key.Tenant, key.ID, string(g.Kind), g.Target, g.Value, g.Origin, g.Actor, formatTime(g.At), formatTime(g.ExpiresAt))
		if err != nil {
			return err
		}
	}
	return nil
}

// DeleteGrant takes a grant back and reports whether there was one.
func (s *Store) DeleteGrant(ctx context.Context, key plugin.Key, kind policy.Kind, target string) (bool, error) {
	res, err := s.write.ExecContext(ctx, `DELETE FROM grants WHERE tenant = ? AND id = ? AND kind = ? AND target = ?`,
		key.Tenant, key.ID, string(kind), target)
	if err != nil {
		return false, classify(err, "take back a grant of "+key.String())
	}
	n, err := res.RowsAffected()
	return n > 0, classify(err, "take back a grant of "+key.String())
}

// Grants returns the grants of a plugin, ended ones too, ordered by kind and
// target.
func (s *Store) Grants(ctx context.Context, key plugin.Key) ([]policy.Grant, error) {
	all, err := s.grants(ctx, `WHERE tenant = ? AND id = ?`, key.Tenant, key.ID)
	return all[key], err
}

// AllGrants returns the grants of all plugins of all tenants, ended ones too,
// each list ordered by kind and target.
func (s *Store) AllGrants(ctx context.Context) (map[plugin.Key][]policy.Grant, error) {
	return s.grants(ctx, "")
}

// grantRow is a row of grants.
type grantRow struct {
	key     plugin.Key
	grant   policy.Grant
	at, end string
}

func (s *Store) grants(ctx context.Context, where string, args ...any) (map[plugin.Key][]policy.Grant, error) {
	rows, err := queryAll(ctx, s.read, func(rows *sql.Rows, r *grantRow) error {
		g := &r.grant
		return rows.Scan(&r.key.Tenant, &r.key.ID, &g.Kind, &g.Target, &g.Value, &g.Origin, &g.Actor, &r.at, &r.end)
	}, `SELECT tenant, id, kind, target, value, origin, actor, granted_at, expires_at FROM grants `+where+` ORDER BY tenant, id, kind, target`, args...)
	if err != nil {
		return nil, err
	}
	all := map[plugin.Key][]policy.Grant{}
	for _, r := range rows {
		var atErr, endErr error
		r.grant.At, atErr = parseTime(r.at)
		r.grant.ExpiresAt, endErr = parseTime(r.end)
		if err := errors.Join(atErr, endErr); err != nil {
			return nil, err
		}
		all[r.key] = append(all[r.key], r.grant)
	}
	return all, nil
}

// PutDenial notes that actor refused a request of an installed plugin.
// NotFound if the plugin is not installed.
func (s *Store) PutDenial(ctx context.Context, key plugin.Key, request, actor string, at time.Time) error {
	return s.transact(ctx, "note a refusal to "+key.String(), func(tx *sql.Tx) error {
		if err := mustExist(ctx, tx, key); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO denials (tenant, id, request, actor, denied_at) VALUES (?, ?, ?, ?, ?)`,
			key.Tenant, key.ID, request, actor, formatTime(at))
		return err
	})
}

// AllDenials returns the ids of the requests that were refused, of all plugins
// of all tenants.
func (s *Store) AllDenials(ctx context.Context) (map[plugin.Key]map[string]bool, error) {
	type row struct {
		key     plugin.Key
		request string
	}
	list, err := queryAll(ctx, s.read, func(rows *sql.Rows, r *row) error { return rows.Scan(&r.key.Tenant, &r.key.ID, &r.request) },
		`SELECT tenant, id, request FROM denials`)
	denied := map[plugin.Key]map[string]bool{}
	for _, r := range list {
		if denied[r.key] == nil {
			denied[r.key] = map[string]bool{}
		}
		denied[r.key][r.request] = true
	}
	return denied, err
}

// transact runs do in one transaction. doing completes "cannot ...".
func (s *Store) transact(ctx context.Context, doing string, do func(*sql.Tx) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return classify(err, doing)
	}
	defer tx.Rollback() //nolint:errcheck // does nothing after Commit
	if err := do(tx); err != nil {
		var classed *fault.Error
		if errors.As(err, &classed) {
			return err
		}
		return classify(err, doing)
	}
	return classify(tx.Commit(), doing)
}

func mustExist(ctx context.Context, tx *sql.Tx, key plugin.Key) error {
	var one int
	err := tx.QueryRowContext(ctx, `SELECT 1 FROM plugins WHERE tenant = ? AND id = ?`, key.Tenant, key.ID).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return unknown(key)
	}
	return err
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func parseTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return t, fault.New(errdefs.ErrDataLoss, "state_corrupt", "cannot decode a time in the state database: %w", err).WithHint("%s", corruptHint)
	}
	return t, nil
}
