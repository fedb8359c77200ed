// Package store owns state.db, the SQLite database of one home: which plugins
// are installed, what people granted to them, their generations, the
// supervisor's counters, and the tokens of callers over TLS.
//
// What a method has returned without an error survives a kill at any moment:
// every write is one transaction that is synced to the disk first. Every row
// but those of meta carries its tenant, and no method reaches over tenants
// unless its documentation says so.
package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Store is an open state.db. It is safe for concurrent use. Make it with
// [Open] and end it with [Store.Close].
type Store struct {
	write  *sql.DB // one connection: writers queue here instead of in SQLite
	read   *sql.DB
	homeID string
}

// Close ends all connections. Calls in flight fail.
func (s *Store) Close() error {
	return errors.Join(s.read.Close(), s.write.Close())
}

// HomeID returns the random name of this home, 32 hexadecimal digits, made
// when the database was created. Everything that is made in an engine is
// labelled with it, and nothing with another label is touched.
func (s *Store) HomeID() string { return s.homeID }

// Engine returns the name of the container engine that this home's containers
// were last made with, empty before the first.
func (s *Store) Engine(ctx context.Context) (string, error) {
	var name string
	err := s.read.QueryRowContext(ctx, `SELECT value FROM meta WHERE name = 'engine'`).Scan(&name)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return name, classify(err, "read the engine's name")
}

// SetEngine records the engine that containers are made with from now on.
func (s *Store) SetEngine(ctx context.Context, name string) error {
	_, err := s.write.ExecContext(ctx, `INSERT INTO meta (name, value) VALUES ('engine', ?)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name)
	return classify(err, "record the engine's name")
}

// PutPlugin records p, in place of what was recorded under its key. The
// supervisor's counters of the key are kept.
func (s *Store) PutPlugin(ctx context.Context, p plugin.Installed) error {
	doc, err := encodePlugin(p)
	if err != nil {
		return err
	}
	_, err = s.write.ExecContext(ctx, putPlugin, p.Key.Tenant, p.Key.ID, p.Descriptor.Name, p.Payload.Digest, doc)
	return classify(err, "record plugin "+p.Key.String())
}

const putPlugin = `INSERT INTO plugins (tenant, id, package, digest, doc) VALUES (?, ?, ?, ?, ?)
	ON CONFLICT (tenant, id) DO UPDATE SET package = excluded.package, digest = excluded.digest, doc = excluded.doc`

func encodePlugin(p plugin.Installed) (string, error) {
	if err := checkKey(p.Key); err != nil {
		return "", err
	}
	doc, err := json.Marshal(p)
	if err != nil {
		return "", fault.New(errdefs.ErrInvalidArgument, "invalid_argument", "cannot record plugin %s: %w", p.Key, err)
	}
	return string(doc), nil
}

// Plugin returns the plugin installed under key. NotFound if there is none.
func (s *Store) Plugin(ctx context.Context, key plugin.Key) (plugin.Installed, error) {
	var doc string
	err := s.read.QueryRowContext(ctx, `SELECT doc FROM plugins WHERE tenant = ? AND id = ?`, key.Tenant, key.ID).Scan(&doc)
	if errors.Is(err, sql.ErrNoRows) {
		return plugin.Installed{}, unknown(key)
	}
	if err != nil {
		return plugin.Installed{}, classify(err, "read plugin "+key.String())
	}
	return decodePlugin(doc)
}

func unknown(key plugin.Key) error {
	return fault.New(errdefs.ErrNotFound, "unknown_plugin", "there is no plugin %q in tenant %q", key.ID, key.Tenant).
		WithHint("`ocmt plugins list` shows what is installed")
}

// Plugins returns what is installed in a tenant, or in all tenants if tenant
// is empty, ordered by tenant and id.
func (s *Store) Plugins(ctx context.Context, tenant string) ([]plugin.Installed, error) {
	return s.plugins(ctx, `SELECT doc FROM plugins WHERE ?1 = '' OR tenant = ?1 ORDER BY tenant, id`, tenant)
}

func (s *Store) plugins(ctx context.Context, query string, args ...any) ([]plugin.Installed, error) {
	docs, err := queryAll(ctx, s.read, func(rows *sql.Rows, doc *string) error { return rows.Scan(doc) }, query, args...)
	if err != nil {
		return nil, err
	}
	list := make([]plugin.Installed, 0, len(docs))
	for _, doc := range docs {
		p, err := decodePlugin(doc)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

func decodePlugin(doc string) (plugin.Installed, error) {
	var p plugin.Installed
	if err := json.Unmarshal([]byte(doc), &p); err != nil {
		return p, fault.New(errdefs.ErrDataLoss, "state_corrupt", "cannot decode a plugin's record: %w", err).
			WithHint("install the plugin again")
	}
	return p, nil
}

// DeletePlugin forgets the plugin with its grants and counters; its generation
// stays. A key that is not there is no error.
func (s *Store) DeletePlugin(ctx context.Context, key plugin.Key) error {
	_, err := s.write.ExecContext(ctx, `DELETE FROM plugins WHERE tenant = ? AND id = ?`, key.Tenant, key.ID)
	return classify(err, "forget plugin "+key.String())
}

// NextGeneration returns a number that is larger than all it returned for the
// key before, the first being 1, also after the plugin was deleted and
// installed again.
func (s *Store) NextGeneration(ctx context.Context, key plugin.Key) (uint64, error) {
	if err := checkKey(key); err != nil {
		return 0, err
	}
	var n uint64
	err := s.write.QueryRowContext(ctx,
		`INSERT INTO generations (tenant, id, generation) VALUES (?, ?, 1)
		 ON CONFLICT (tenant, id) DO UPDATE SET generation = generation + 1 RETURNING generation`,
		key.Tenant, key.ID).Scan(&n)
	return n, classify(err, "count a generation of "+key.String())
}

// Generation returns the last number that NextGeneration returned for the
// key, 0 if none.
func (s *Store) Generation(ctx context.Context, key plugin.Key) (uint64, error) {
	var n uint64
	err := s.read.QueryRowContext(ctx, `SELECT generation FROM generations WHERE tenant = ? AND id = ?`, key.Tenant, key.ID).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return n, classify(err, "read the generation of "+key.String())
}

// SaveUnit records the supervisor's counters of an installed plugin, which
// the store does not look into. NotFound if the plugin is not installed.
func (s *Store) SaveUnit(ctx context.Context, key plugin.Key, doc json.RawMessage) error {
	res, err := s.write.ExecContext(ctx,
		`INSERT INTO units (tenant, id, doc) SELECT tenant, id, ?3 FROM plugins WHERE tenant = ?1 AND id = ?2
		 ON CONFLICT (tenant, id) DO UPDATE SET doc = excluded.doc`,
		key.Tenant, key.ID, string(doc))
	if err != nil {
		return classify(err, "record the counters of "+key.String())
	}
	if n, err := res.RowsAffected(); err == nil && n == 0 {
		return fault.New(errdefs.ErrNotFound, "unknown_plugin", "cannot record counters of %s: it is not installed", key)
	}
	return nil
}

// LoadUnit returns what SaveUnit recorded last, nil if nothing was.
func (s *Store) LoadUnit(ctx context.Context, key plugin.Key) (json.RawMessage, error) {
	var doc string
	err := s.read.QueryRowContext(ctx, `SELECT doc FROM units WHERE tenant = ? AND id = ?`, key.Tenant, key.ID).Scan(&doc)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, classify(err, "read the counters of "+key.String())
	}
	return json.RawMessage(doc), nil
}

// DeleteUnit forgets the supervisor's counters of the key, if there are any.
func (s *Store) DeleteUnit(ctx context.Context, key plugin.Key) error {
	_, err := s.write.ExecContext(ctx, `DELETE FROM units WHERE tenant = ? AND id = ?`, key.Tenant, key.ID)
	return classify(err, "forget the counters of "+key.String())
}

// queryAll collects one T per row.
func queryAll[T any](ctx context.Context, db *sql.DB, scan func(*sql.Rows, *T) error, query string, args ...any) ([]T, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, classify(err, "read the state")
	}
	defer rows.Close()
	var list []T
	for rows.Next() {
		var v T
		if err := scan(rows, &v); err != nil {
			return nil, classify(err, "read the state")
		}
		list = append(list, v)
	}
	return list, classify(rows.Err(), "read the state")
}

// checkKey keeps rows out that no other part of the program could address.
func checkKey(key plugin.Key) error {
	if err := errors.Join(plugin.CheckTenant(key.Tenant), plugin.CheckID(key.ID)); err != nil {
		return fmt.Errorf("cannot record %q: %w", key, err)
	}
	return nil
}
