// Package home knows where everything of ours lies below $OCMT_HOME, and with
// which modes. No other package spells a path of the home.
//
//	config.json                      the default tenant's, edited by people
//	tenants/<tenant>/config.json     the other tenants'
//	ocmt/state.db                    see package store
//	ocmt/store/                      sealed payloads, by digest
//	ocmt/staging/                    installs under way
//	ocmt/instances/<instance>/       files and mounts of one container
//	ocmt/run/admin.sock, lock        the API; one daemon per home
//	ocmt/run/i/<hash>/               an instance's socket directory
//	ocmt/tenants/<t>/call.sock       the API of the tenant's hosts
//	ocmt/tenants/<t>/plugins/<id>/   a plugin's state
//	ocmt/audit/                      the audit log, see package audit
//	ocmt/keys/                       the keys that sign it
package home

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Home is an absolute path without symlinks in its last element's parents.
type Home struct{ dir string }

// Default returns the home that a command uses which names none: $OCMT_HOME,
// else ~/.openclaw.
func Default(getenv func(string) string) (string, error) {
	if dir := getenv("OCMT_HOME"); dir != "" {
		return dir, nil
	}
	user := getenv("HOME")
	if user == "" {
		return "", fault.New(errdefs.ErrInvalidArgument, "no_home", "neither OCMT_HOME nor HOME is set").
			WithHint("set OCMT_HOME to a directory of your own, or pass --home")
	}
	return filepath.Join(user, ".openclaw"), nil
}

// Open makes the home's directories where they are missing. It fails with
// PermissionDenied when dir cannot be written, and as [CheckFileSystem] does.
func Open(dir string) (Home, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return Home{}, fmt.Errorf("cannot resolve home %s: %w", dir, err)
	}
	if err := os.MkdirAll(filepath.Join(abs, "ocmt"), 0o700); err != nil {
		return Home{}, notWritable(abs, err)
	}
	abs, err = filepath.EvalSymlinks(abs)
	if err != nil {
		return Home{}, fmt.Errorf("cannot resolve home %s: %w", dir, err)
	}
	h := Home{abs}
	for _, d := range []string{h.Store(), h.Staging(), h.Instances(), h.Run(), h.Sockets(), h.Audit(), h.Keys()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return Home{}, notWritable(abs, err)
		}
	}
	return h, CheckFileSystem(h.Run())
}

func notWritable(dir string, err error) error {
	var class error = errdefs.ErrInternal
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.ENOTDIR) {
		class = errdefs.ErrPermissionDenied
	}
	return fault.New(class, "home_not_writable", "cannot write to the home %s: %w", dir, err).
		WithHint("choose a directory that you may write to with --home or OCMT_HOME")
}

// Dir is the home itself.
func (h Home) Dir() string { return h.dir }

// DB is the SQLite database's path.
func (h Home) DB() string { return filepath.Join(h.dir, "ocmt", "state.db") }

// Store holds the sealed payloads.
func (h Home) Store() string { return filepath.Join(h.dir, "ocmt", "store") }

// Staging holds what installs under way write.
func (h Home) Staging() string { return filepath.Join(h.dir, "ocmt", "staging") }

// Instances holds a directory for every container.
func (h Home) Instances() string { return filepath.Join(h.dir, "ocmt", "instances") }

// Instance is the directory of one container's files and mounts.
func (h Home) Instance(id string) string { return filepath.Join(h.Instances(), id) }

// Run holds the sockets and the lock.
func (h Home) Run() string { return filepath.Join(h.dir, "ocmt", "run") }

// Sockets holds the instances' socket directories.
func (h Home) Sockets() string { return filepath.Join(h.Run(), "i") }

// SocketDir is the socket directory of one instance; its name is short, as a
// socket's path may have 107 bytes only.
func (h Home) SocketDir(instance string) string {
	sum := sha256.Sum256([]byte(instance))
	return filepath.Join(h.Sockets(), hex.EncodeToString(sum[:6]))
}

// AdminSocket is where the operator's API listens.
func (h Home) AdminSocket() string { return filepath.Join(h.Run(), "admin.sock") }

// CallSocket is where the API of a tenant's hosts listens, unless it was
// given another place.
func (h Home) CallSocket(tenant string) string {
	return filepath.Join(h.Tenants(), tenant, "call.sock")
}

// Lock is the file whose lock a running daemon holds.
func (h Home) Lock() string { return filepath.Join(h.Run(), "lock") }

// Tenants holds what belongs to tenants, and with it all of Plugin.
func (h Home) Tenants() string { return filepath.Join(h.dir, "ocmt", "tenants") }

// Plugin is the directory of what outlives a plugin's instances.
func (h Home) Plugin(key plugin.Key) string {
	return filepath.Join(h.Tenants(), key.Tenant, "plugins", key.ID)
}

// State is a plugin's own directory, /state in its container.
func (h Home) State(key plugin.Key) string { return filepath.Join(h.Plugin(key), "state") }

// PreviousLog holds what the instance before the present one printed.
func (h Home) PreviousLog(key plugin.Key) string { return filepath.Join(h.Plugin(key), "previous.log") }

// Audit holds the audit log.
func (h Home) Audit() string { return filepath.Join(h.dir, "ocmt", "audit") }

// Keys holds the keys of this home, apart from what they sign.
func (h Home) Keys() string { return filepath.Join(h.dir, "ocmt", "keys") }

// Secrets holds the tenants' encrypted secrets, and SecretsKey what decrypts
// them.
func (h Home) Secrets() string { return filepath.Join(h.dir, "ocmt", "secrets") }

// SecretsKey is the key of the files in Secrets, mode 0600.
func (h Home) SecretsKey() string { return filepath.Join(h.Keys(), "secrets.key") }

// StateImage is the file that holds a plugin's state where its size can be
// bounded: a file system of its own, mounted at State.
func (h Home) StateImage(key plugin.Key) string { return filepath.Join(h.Plugin(key), "state.img") }
