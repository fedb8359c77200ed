package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// FirstUID is the first user id that is given out. It lies above what systems
// give to people and services, and above the subordinate id ranges of the
// first fourteen users by default (65,536 each from 100,000 on). Two homes on
// one host give out the same ids.
const FirstUID = 1 << 20

// UID returns the user and group id that the plugin's containers run as. It is
// given out at the first call and stays the plugin's own for ever.
func (s *Store) UID(ctx context.Context, key plugin.Key) (uint32, error) {
	if err := checkKey(key); err != nil {
		return 0, err
	}
	const find = `SELECT uid FROM uids WHERE tenant = ? AND id = ?`
	var uid uint32
	err := s.read.QueryRowContext(ctx, find, key.Tenant, key.ID).Scan(&uid)
	if !errors.Is(err, sql.ErrNoRows) {
		return uid, classify(err, "read the user id of "+key.String())
	}
	_, err = s.write.ExecContext(ctx,
		`INSERT INTO uids (uid, tenant, id) SELECT coalesce(max(uid) + 1, ?1), ?2, ?3 FROM uids WHERE true
		 ON CONFLICT (tenant, id) DO NOTHING`, FirstUID, key.Tenant, key.ID)
	if err != nil {
		return 0, classify(err, "give a user id to "+key.String())
	}
	err = s.read.QueryRowContext(ctx, find, key.Tenant, key.ID).Scan(&uid)
	return uid, classify(err, "read the user id of "+key.String())
}
