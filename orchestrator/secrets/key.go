package secrets

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"
	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// nextSuffix names the key that a rotation changes to, beside the key.
const nextSuffix = ".next"

// maxKeyFile bounds a file with a key, in bytes.
const maxKeyFile = 4 << 10

func (s *Store) nextFile() string { return s.keyFile + nextSuffix }

// openKeys reads the key, and the next one if a rotation was interrupted. It
// makes the key if there is none and nothing that one could decrypt.
func (s *Store) openKeys(used bool) error {
	if err := os.MkdirAll(filepath.Dir(s.keyFile), 0o700); err != nil {
		return unwritable(s.keyFile, err)
	}
	var err error
	if s.key, err = readKey(s.keyFile); err != nil {
		return err
	}
	if s.next, err = readKey(s.nextFile()); err != nil {
		return err
	}
	if s.key != nil {
		return nil
	}
	if used || s.next != nil {
		return fault.New(errdefs.ErrFailedPrecondition, "secrets_key_missing", "the key %s is missing, and %s holds secrets that only it decrypts", s.keyFile, s.dir).
			WithHint("put the key back from a backup; without it, move the files in %s away and set the secrets anew", s.dir)
	}
	s.key, err = makeKey(s.keyFile)
	return err
}

// readKey returns the key in a file, nil if there is no file.
func readKey(path string) (*age.X25519Identity, error) {
	data, err := readOwn(path, maxKeyFile)
	if err != nil || data == nil {
		return nil, err
	}
	// What age says of a bad line may quote from it.
	identities, err := age.ParseIdentities(bytes.NewReader(data))
	if err == nil && len(identities) == 1 {
		if key, ok := identities[0].(*age.X25519Identity); ok {
			return key, nil
		}
	}
	return nil, fault.New(errdefs.ErrFailedPrecondition, "bad_secrets_key", "cannot use the key %s: it does not hold one age X25519 key", path).
		WithHint("put the key back from a backup")
}

// makeKey makes a key in a file of its own, which is on the disk when it
// returns.
func makeKey(path string) (*age.X25519Identity, error) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, fault.New(errdefs.ErrInternal, "internal", "cannot make a key: %w", err)
	}
	text := fmt.Appendf(nil, "# created: %s\n# public key: %s\n%s\n", time.Now().UTC().Format(time.RFC3339), key.Recipient(), key)
	return key, replaceFile(path, text)
}

func wrongKey(path string) error {
	return fault.New(errdefs.ErrFailedPrecondition, "wrong_secrets_key", "the key %s is not the one that the secrets are encrypted for", path).
		WithHint("put the right key back from a backup")
}

// Rotate makes a new key, encrypts every file anew for it and puts it in the
// place of the old one, which is gone when Rotate returns without an error.
// Placeholders stay the same. After an error or a crash at any moment every
// value can still be read, with both keys where need be; the next Rotate or
// Open finishes what was begun. Nothing is begun while a tenant's file cannot
// be read.
func (s *Store) Rotate(ctx context.Context) error {
	s.write.Lock()
	defer s.write.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.next == nil {
		tenants, err := s.tenants()
		if err != nil {
			return err
		}
		for _, tenant := range tenants {
			if _, err := s.load(tenant); err != nil {
				return err
			}
		}
		next, err := makeKey(s.nextFile())
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.next = next
		s.mu.Unlock()
	}
	return s.finish(ctx)
}

// finish encrypts every file for the next key, each of which both keys
// together can read, and lets the next key take the place of the key.
func (s *Store) finish(ctx context.Context) error {
	tenants, err := s.tenants()
	if err != nil {
		return err
	}
	for _, tenant := range tenants {
		if err := ctx.Err(); err != nil {
			return err
		}
		v, err := s.load(tenant)
		if err != nil {
			return err
		}
		if err := s.save(tenant, v); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := os.Rename(s.nextFile(), s.keyFile); err != nil {
		return unwritable(s.keyFile, err)
	}
	s.mu.Lock()
	s.key, s.next = s.next, nil
	s.mu.Unlock()
	return syncDir(filepath.Dir(s.keyFile))
}
