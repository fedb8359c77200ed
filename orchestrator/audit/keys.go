package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/mod/sumdb/note"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// Files in the directory of the keys.
const (
	PublicKeyFile = "audit.pub"  // verifies checkpoints; to be kept elsewhere too
	HeadFile      = "audit.head" // the newest checkpoint, out of reach of who can write to the log only
	signKeyFile   = "audit.key"
	hmacKeyFile   = "audit.hmac"
)

const hmacKeySize = 32

// keys signs checkpoints and hashes arguments.
type keys struct {
	dir      string
	signer   note.Signer
	verifier note.Verifier
	master   []byte

	mu      sync.RWMutex
	tenants map[string][]byte
}

// loadKeys reads the keys, and makes those that are missing.
func loadKeys(dir string) (*keys, error) {
	secret, err := loadSecret(dir, signKeyFile, func() (string, error) {
		var id [8]byte
		if _, err := rand.Read(id[:]); err != nil {
			return "", err
		}
		skey, _, err := note.GenerateKey(rand.Reader, "ocmt-audit-"+hex.EncodeToString(id[:]))
		return skey, err
	})
	if err != nil {
		return nil, err
	}
	k := &keys{dir: dir, tenants: map[string][]byte{}}
	public, err := publicOf(secret)
	if err != nil {
		return nil, badKey(dir, signKeyFile, err)
	}
	if k.signer, err = note.NewSigner(secret); err != nil {
		return nil, badKey(dir, signKeyFile, err)
	}
	if k.verifier, err = note.NewVerifier(public); err != nil {
		return nil, badKey(dir, signKeyFile, err)
	}
	path := filepath.Join(dir, PublicKeyFile)
	if have, err := os.ReadFile(path); err != nil || string(have) != public+"\n" {
		if err := replaceFile(path, []byte(public+"\n"), 0o644); err != nil {
			return nil, err
		}
	}
	master, err := loadSecret(dir, hmacKeyFile, func() (string, error) {
		key := make([]byte, hmacKeySize)
		_, err := rand.Read(key)
		return hex.EncodeToString(key), err
	})
	if err != nil {
		return nil, err
	}
	if k.master, err = hex.DecodeString(master); err != nil || len(k.master) != hmacKeySize {
		return nil, badKey(dir, hmacKeyFile, errors.New("it is not 64 hexadecimal digits"))
	}
	return k, nil
}

// publicOf returns the verifier key of a signer key, which is
// "PRIVATE+KEY+name+hash+base64", with one byte for the algorithm before the
// seed.
func publicOf(signer string) (string, error) {
	fields := strings.SplitN(signer, "+", 5)
	if len(fields) != 5 {
		return "", errors.New("it is no signer key")
	}
	key, err := base64.StdEncoding.DecodeString(fields[4])
	if err != nil || len(key) != 1+ed25519.SeedSize {
		return "", errors.New("it is no Ed25519 signer key")
	}
	public, ok := ed25519.NewKeyFromSeed(key[1:]).Public().(ed25519.PublicKey)
	if !ok {
		return "", errors.New("it has no public half")
	}
	return note.NewEd25519VerifierKey(fields[2], public)
}

// loadSecret reads a file that only its owner may read, or makes it.
func loadSecret(dir, name string, generate func() (string, error)) (string, error) {
	path := filepath.Join(dir, name)
	st, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		secret, err := generate()
		if err != nil {
			return "", fmt.Errorf("cannot make the key %s: %w", path, err)
		}
		return secret, replaceFile(path, []byte(secret+"\n"), 0o600)
	}
	if err != nil {
		return "", fmt.Errorf("cannot read the key %s: %w", path, err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return "", fault.New(errdefs.ErrFailedPrecondition, "audit_key_exposed", "the key %s can be read by others (mode %04o)", path, st.Mode().Perm()).
			WithHint("chmod 600 %s", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("cannot read the key %s: %w", path, err)
	}
	return strings.TrimSpace(string(data)), nil
}

func badKey(dir, name string, err error) error {
	return fault.New(errdefs.ErrFailedPrecondition, "bad_audit_key", "cannot use the key %s: %w", filepath.Join(dir, name), err).
		WithHint("put the file back from a backup; without it a new key is made, and what the old one signed does not verify with the new one")
}

// hmac returns "hmac-sha256:" and the hash of data under the tenant's key.
func (k *keys) hmac(tenant string, data []byte) string {
	h := hmac.New(sha256.New, k.tenantKey(tenant))
	h.Write(data)
	return "hmac-sha256:" + hex.EncodeToString(h.Sum(nil))
}

func (k *keys) tenantKey(tenant string) []byte {
	k.mu.RLock()
	key := k.tenants[tenant]
	k.mu.RUnlock()
	if key != nil {
		return key
	}
	key, err := hkdf.Key(sha256.New, k.master, nil, "ocmt audit params\x00"+tenant, hmacKeySize)
	if err != nil {
		panic(err) // only for a length that SHA-256 cannot give
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tenants[tenant] = key
	return key
}

// head returns the newest checkpoint as it is kept beside the keys, nil if
// there is none.
func (k *keys) head() (*checkpoint, error) {
	data, err := os.ReadFile(filepath.Join(k.dir, HeadFile))
	if errors.Is(err, os.ErrNotExist) || err == nil && len(bytes.Trim(data, "\x00")) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the last checkpoint: %w", err)
	}
	c, err := parseCheckpoint(data, k.verifier)
	if err != nil {
		return nil, fault.New(errdefs.ErrDataLoss, "bad_audit_head", "cannot trust %s: %w", filepath.Join(k.dir, HeadFile), err).
			WithHint("look at what changed it; remove the file to go on without it")
	}
	return &c, nil
}

// replaceFile writes a file so that it is there whole or not at all.
func replaceFile(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// setHead keeps the newest checkpoint beside the keys. It is not synced: where
// the machine dies, an older one or an empty file is there, and that is as if there were none.
func (k *keys) setHead(signed []byte) error {
	path := filepath.Join(k.dir, HeadFile)
	if err := os.WriteFile(path+".new", signed, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
