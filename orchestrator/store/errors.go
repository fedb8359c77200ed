package store

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/containerd/errdefs"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// classify gives an error of SQLite its class and hint. doing completes
// "cannot ...". It returns nil for nil.
func classify(err error, doing string) error {
	if err == nil {
		return nil
	}
	code, hint, class := classOf(err)
	return fault.New(class, code, "cannot %s: %w", doing, err).WithHint("%s", hint)
}

// classifyAt is classify for opening the file at path; it keeps errors that
// have a hint already.
func classifyAt(err error, path string) error {
	var classed *fault.Error
	if errors.As(err, &classed) {
		return err
	}
	if _, _, class := classOf(err); errdefs.IsPermissionDenied(class) {
		return notWritable(path, err)
	}
	return classify(err, "open the state database "+path)
}

func notWritable(path string, err error) error {
	return fault.New(errdefs.ErrPermissionDenied, "home_not_writable", "cannot write the state database %s: %w", path, err).
		WithHint("make %s writable for the user that runs ocmt, or name another home with --home", filepath.Dir(path))
}

func classOf(err error) (code, hint string, class error) {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout", "the disk may be slow or gone; try again", context.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return "cancelled", "", context.Canceled
	case errdefs.IsDataLoss(err):
		return "state_corrupt", corruptHint, errdefs.ErrDataLoss
	}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return "internal", "", errdefs.ErrInternal
	}
	switch e.Code() & 0xff { // the primary result code
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return "state_corrupt", corruptHint, errdefs.ErrDataLoss
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
		return "home_not_writable", "make the home writable for the user that runs ocmt", errdefs.ErrPermissionDenied
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return "state_busy", "another process holds the state database: end it and try again", errdefs.ErrUnavailable
	case sqlite3.SQLITE_FULL:
		return "disk_full", "make room on the disk of the home", errdefs.ErrUnavailable
	}
	return "internal", "", errdefs.ErrInternal
}

const corruptHint = "stop ocmt, then restore the file from a backup, or move it away and install the plugins again"
