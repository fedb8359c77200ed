package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// FirstUID is the first user id that is given out. It lies above what systems
// give to people and services, and above the subordinate id ranges of the
// first fourteen users by default (65,536 each from 100,000 on).
const FirstUID = 1 << 20

// Tenants get ids in blocks: at first one, and another when that is full. Which
// block is a home's first depends on its random id, so that two homes on one
// host rarely give out the same ids: of two with ten tenants each, one pair in
// 27,000 does. Ids stay below 2^31, which some programs take for negative.
const (
	uidsPerBlock = 4096
	uidBlocks    = (1<<31 - FirstUID) / uidsPerBlock
)

// uidBlock is the first id of the n-th block that a home gives out.
func uidBlock(homeID string, n int64) (int64, error) {
	id, err := hex.DecodeString(homeID)
	if err != nil || len(id) < 8 {
		return 0, fault.New(errdefs.ErrDataLoss, "state_corrupt", "the home's id %q is not one", homeID).WithHint("%s", corruptHint)
	}
	base := int64(binary.BigEndian.Uint64(id) % uidBlocks)
	return FirstUID + (base+n)%uidBlocks*uidsPerBlock, nil
}

// UID returns the user and group id that the plugin's containers run as. It is
// given out at the first call, from a block of its tenant's own, and stays the
// plugin's for ever: also when it is uninstalled, since its state may be kept,
// and installed again. ResourceExhausted when all ids are given out.
func (s *Store) UID(ctx context.Context, key plugin.Key) (uint32, error) {
	if err := checkKey(key); err != nil {
		return 0, err
	}
	doing := "read the user id of " + key.String()
	uid, err := findUID(ctx, s.read, key)
	if !errors.Is(err, sql.ErrNoRows) {
		return uid, classify(err, doing)
	}
	err = s.transact(ctx, "give a user id to "+key.String(), func(tx *sql.Tx) error {
		uid, err = findUID(ctx, tx, key) // somebody may have been faster
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		next, err := s.nextUID(ctx, tx, key.Tenant)
		if err != nil {
			return err
		}
		uid = uint32(next)
		_, err = tx.ExecContext(ctx, `INSERT INTO uids (uid, tenant, id) VALUES (?, ?, ?)`, next, key.Tenant, key.ID)
		return err
	})
	return uid, err
}

// TenantUID returns the user and group id of a tenant's containers that belong
// to no plugin, as those that install one. It is no plugin's, no other
// tenant's, and given out at the first call. Errors are as those of UID.
func (s *Store) TenantUID(ctx context.Context, tenant string) (uint32, error) {
	if err := plugin.CheckTenant(tenant); err != nil {
		return 0, fmt.Errorf("cannot give a user id: %w", err)
	}
	var uid int64
	err := s.transact(ctx, "give a user id to tenant "+tenant, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `SELECT first FROM uid_blocks WHERE tenant = ? ORDER BY n LIMIT 1`, tenant).Scan(&uid)
		if errors.Is(err, sql.ErrNoRows) {
			uid, err = s.addUIDBlock(ctx, tx, tenant)
		}
		return err
	})
	return uint32(uid), err
}

// rowQuerier is a database or a transaction.
type rowQuerier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func findUID(ctx context.Context, db rowQuerier, key plugin.Key) (uid uint32, err error) {
	err = db.QueryRowContext(ctx, `SELECT uid FROM uids WHERE tenant = ? AND id = ?`, key.Tenant, key.ID).Scan(&uid)
	return uid, err
}

// nextUID is the first free id of the tenant's last block, or of a new one. Ids
// are never taken back, so that all after the highest are free.
func (s *Store) nextUID(ctx context.Context, tx *sql.Tx, tenant string) (int64, error) {
	var first, last int64
	err := tx.QueryRowContext(ctx, `SELECT first, (SELECT coalesce(max(uid), first) FROM uids WHERE uid >= first AND uid < first + ?)
		FROM uid_blocks WHERE tenant = ? ORDER BY n DESC LIMIT 1`, uidsPerBlock, tenant).Scan(&first, &last)
	if err == nil && last+1 < first+uidsPerBlock {
		return last + 1, nil
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, err
	}
	first, err = s.addUIDBlock(ctx, tx, tenant)
	return first + 1, err
}

// addUIDBlock gives the tenant a block in which no plugin has an id from before
// there were blocks.
func (s *Store) addUIDBlock(ctx context.Context, tx *sql.Tx, tenant string) (int64, error) {
	var n int64
	if err := tx.QueryRowContext(ctx, `SELECT coalesce(max(n) + 1, 0) FROM uid_blocks`).Scan(&n); err != nil {
		return 0, err
	}
	for ; n < uidBlocks; n++ {
		first, err := uidBlock(s.homeID, n)
		if err != nil {
			return 0, err
		}
		var used bool
		err = tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM uids WHERE uid >= ? AND uid < ?)`, first, first+uidsPerBlock).Scan(&used)
		if err != nil {
			return 0, err
		}
		if used {
			continue
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO uid_blocks (n, first, tenant) VALUES (?, ?, ?)`, n, first, tenant)
		return first, err
	}
	return 0, fault.New(errdefs.ErrResourceExhausted, "uids_exhausted",
		"cannot give a user id to tenant %s: all %d blocks of %d are given out, and none is taken back", tenant, uidBlocks, uidsPerBlock).
		WithHint("use another home with --home for further tenants")
}
