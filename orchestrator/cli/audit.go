package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	"github.com/ocmt/ocmt/orchestrator/audit"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

func (a *app) auditCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "audit",
		Short: "Read and verify the audit log",
		Long: `Read and verify the audit log, which says who did what: installs, grants, starts,
calls, connections.

These commands read the home's files and need no daemon. Every record holds the
hash of the one before, and the log is signed about once a second with a key of
the home. Keep a checkpoint elsewhere now and then: with it, "verify" also finds
that the log and its signatures were replaced together.`,
		Example: `  ocmt audit tail -f
  ocmt audit verify
  ocmt audit checkpoint > /mnt/elsewhere/ocmt.checkpoint`,
	}, a.auditTailCommand(), a.auditExportCommand(), a.auditVerifyCommand(), a.auditCheckpointCommand())
}

// auditDir and keyDir are home.Home.Audit and home.Home.Keys for a home that
// is not opened, which would make its directories.
func auditDir(dir string) string { return filepath.Join(dir, "ocmt", "audit") }

func keyDir(dir string) string { return filepath.Join(dir, "ocmt", "keys") }

// auditLog is where the home's audit log lies.
func (a *app) auditLog() (string, error) {
	dir, err := a.homeDir()
	if err != nil {
		return "", err
	}
	return auditDir(dir), nil
}

// publicKey reads the key that verifies checkpoints, the home's if file is "".
func (a *app) publicKey(file string) (string, error) {
	if file == "" {
		dir, err := a.homeDir()
		if err != nil {
			return "", err
		}
		file = filepath.Join(keyDir(dir), audit.PublicKeyFile)
	}
	key, err := readBounded(file)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(key)), nil
}

// maxAuditInput bounds a key and a checkpoint, in bytes.
const maxAuditInput = 64 << 10

func readBounded(file string) ([]byte, error) {
	f, err := os.Open(file)
	var data []byte
	if err == nil {
		defer f.Close()
		data, err = io.ReadAll(io.LimitReader(f, maxAuditInput+1))
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fault.New(errdefs.ErrNotFound, "no_file", "there is no file %s", file).
			WithHint("name the home that holds it with --home, or the file itself")
	case errors.Is(err, os.ErrPermission):
		return nil, fault.New(errdefs.ErrPermissionDenied, "not_readable", "cannot read %s: %w", file, err).
			WithHint("run this as the user that owns the home")
	case err != nil:
		return nil, fmt.Errorf("cannot read %s: %w", file, err)
	case len(data) > maxAuditInput:
		return nil, fault.New(errdefs.ErrInvalidArgument, "too_large", "%s has more than %s", file, byteSize(maxAuditInput))
	}
	return data, nil
}

// sinceFlag reads --since.
func sinceFlag(cmd *cobra.Command, since string) (time.Time, error) {
	at, err := parseSince(since, time.Now())
	if err != nil {
		return time.Time{}, usage(cmd, "--since %q is neither a duration like 10m nor a time like 2026-01-02T15:04:05Z", since)
	}
	return at, nil
}
