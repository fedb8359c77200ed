package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

//go:embed migrations/*.sql
var migrations embed.FS

// applicationID marks a database file as ours ("OCMT"), so that another
// program's database is never migrated.
const applicationID = 0x4f434d54

// readers bounds the reading connections. Reads are short; two keep a slow
// one from holding up the rest.
const readers = 2

// Open opens the database at path, makes it and its directory where they are
// missing (modes 0600 and 0700), and brings its schema up to date.
//
// PermissionDenied: the place is not writable. FailedPrecondition: the file
// was written by a newer version or is not ours. DataLoss: the file is
// damaged. Unavailable: another process holds it, or the disk is full. Each
// carries a hint.
func Open(ctx context.Context, path string) (*Store, error) {
	if err := create(path); err != nil {
		return nil, err
	}
	s, err := connect(path)
	if err != nil {
		return nil, classifyAt(err, path)
	}
	if err := s.prepare(ctx); err != nil {
		_ = s.Close() // the first error says what is wrong
		return nil, classifyAt(err, path)
	}
	return s, nil
}

// create makes an empty file if there is none, because SQLite would make it
// with the mode that the umask allows, and because the file system's own
// errors are clearer than SQLite's.
func create(path string) error {
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		var f *os.File
		if f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err == nil {
			err = f.Close()
		}
	}
	switch {
	case err == nil, errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrPermission):
		return notWritable(path, err)
	}
	return fault.New(errdefs.ErrFailedPrecondition, "home_unusable", "cannot create the state database: %w", err).
		WithHint("check that %s can be made, or name another home with --home", filepath.Dir(path))
}

func connect(path string) (*Store, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	write, err := sql.Open("sqlite", dsn(abs, url.Values{
		"_journal_mode": {"WAL"}, "_synchronous": {"FULL"}, "_foreign_keys": {"1"}, "_txlock": {"immediate"},
	}))
	if err != nil {
		return nil, err
	}
	write.SetMaxOpenConns(1)
	read, err := sql.Open("sqlite", dsn(abs, url.Values{"_query_only": {"1"}}))
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	read.SetMaxOpenConns(readers)
	return &Store{write: write, read: read}, nil
}

// dsn is a file: URI, so that a "?" or "%" in a path means itself.
func dsn(abs string, params url.Values) string {
	params.Set("_busy_timeout", "5000") // milliseconds: a backup or a sqlite3 shell may hold the file
	params.Set("_error_rc", "1")
	params.Set("_defensive", "1")
	return (&url.URL{Scheme: "file", Path: abs, RawQuery: params.Encode()}).String()
}

// prepare checks the file, migrates it and reads the home's id. The checks
// use a reading connection, because the writing one turns a file that may not
// be ours to WAL when it connects.
func (s *Store) prepare(ctx context.Context) error {
	var state string
	if err := s.read.QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&state); err != nil {
		return err
	}
	if state != "ok" {
		return fmt.Errorf("%w: %s", errdefs.ErrDataLoss, state)
	}
	version, err := schemaVersion(ctx, s.read)
	if err != nil {
		return err
	}
	if err := migrate(ctx, s.write, version); err != nil {
		return err
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	if _, err := s.write.ExecContext(ctx,
		`INSERT INTO meta (name, value) VALUES ('home_id', ?) ON CONFLICT DO NOTHING`, hex.EncodeToString(id[:])); err != nil {
		return err
	}
	return s.read.QueryRowContext(ctx, `SELECT value FROM meta WHERE name = 'home_id'`).Scan(&s.homeID)
}

// migrate applies the migrations that come after version, each in its own
// transaction. The n-th file in order of names leads to user_version n.
func migrate(ctx context.Context, db *sql.DB, version int) error {
	files, err := fs.Glob(migrations, "migrations/*.sql") // sorted
	if err != nil {
		return err
	}
	if version > len(files) {
		return fault.New(errdefs.ErrFailedPrecondition, "state_newer",
			"the state database has schema %d, this ocmt knows %d", version, len(files)).
			WithHint("it was written by a newer ocmt: run that one, or name another home with --home")
	}
	for ; version < len(files); version++ {
		if err := applyMigration(ctx, db, files[version], version+1); err != nil {
			return err
		}
	}
	return nil
}

// schemaVersion returns 0 for an empty file, and an error for a file of
// another program.
func schemaVersion(ctx context.Context, db *sql.DB) (int, error) {
	var version, id, tables int
	err := errors.Join(
		db.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&version),
		db.QueryRowContext(ctx, `PRAGMA application_id`).Scan(&id),
		db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema`).Scan(&tables),
	)
	if err != nil {
		return 0, err
	}
	if id != applicationID && (tables > 0 || version > 0) {
		return 0, fault.New(errdefs.ErrFailedPrecondition, "state_foreign", "the state database belongs to another program").
			WithHint("move that file away, or name another home with --home")
	}
	return version, nil
}

func applyMigration(ctx context.Context, db *sql.DB, file string, version int) error {
	text, err := migrations.ReadFile(file)
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // does nothing after Commit
	script := fmt.Sprintf("%s\nPRAGMA application_id = %d; PRAGMA user_version = %d;", text, applicationID, version)
	if _, err := tx.ExecContext(ctx, script); err != nil {
		return fmt.Errorf("cannot apply %s: %w", filepath.Base(file), err)
	}
	return tx.Commit()
}
