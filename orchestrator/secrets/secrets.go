// Package secrets owns the tenants' secrets: it keeps them encrypted on the
// disk, says where each may go, and makes the placeholders that plugins hold
// in their place.
//
// Each tenant has one file, encrypted with age (https://age-encryption.org)
// for the X25519 key in the key file, which is in age's own format: whoever
// has both can read them without ocmt. Every change replaces the whole file
// in one step and is on the disk when it returns, so that a crash leaves the
// old or the new one. Files that others than their owner may read, links, and
// files of another owner are refused. A lost key is never replaced by a new
// one while something is encrypted for it.
//
// Where a secret may go is part of the secret. Its value is in no error, no
// [Secret] and no text of a [Store]. One process at a time may have a Store of
// a directory open.
package secrets

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"filippo.io/age"
	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Bounds of secrets. A value that is bound to a host has at least MinBound
// characters: what is shorter cannot be struck out of that host's answers
// without striking out ordinary words.
const (
	MaxSecrets  = 256      // of a tenant
	MaxValue    = 16 << 10 // bytes
	MinBound    = 8        // characters
	MaxNameSize = 128      // bytes, of a header or a query parameter
	maxActor    = 256      // bytes
)

// PlaceholderPrefix begins every placeholder; no value may begin with it.
const PlaceholderPrefix = "ocmt-secret-"

// placeholderBytes become 40 characters of base32: 200 bits cannot be guessed.
const placeholderBytes = 25

// Secret says what a secret is for. It never holds the value.
type Secret struct {
	Name string `json:"name"`
	// Host is the only destination that is sent the value, as
	// plugin.CanonicalHost spells it: a name, or "*.name" for one label;
	// empty for a secret that is sent nowhere.
	Host string `json:"host,omitempty"`
	// Port is that of Host, 0 without one.
	Port uint16 `json:"port,omitempty"`
	// Header, in canonical form, or Query is where requests to Host carry the
	// value. A secret with a host has exactly one of them.
	Header string `json:"header,omitempty"`
	Query  string `json:"query,omitempty"`
	// Env says that the value may be handed to a plugin in plain, by a grant
	// of the environment variable with the secret's name.
	Env       bool      `json:"env,omitempty"`
	CreatedAt time.Time `json:"createdAt"` // UTC, as UpdatedAt
	UpdatedAt time.Time `json:"updatedAt"`
	Actor     string    `json:"actor,omitempty"` // who set it last
}

// vault holds one tenant's secrets. It does not change once others see it.
type vault struct {
	salt  []byte // of the placeholders
	items map[string]item
}

type item struct {
	meta  Secret
	value string
}

func newVault() *vault {
	v := &vault{salt: make([]byte, sha256.Size), items: map[string]item{}}
	_, _ = rand.Read(v.salt) // never fails
	return v
}

// Store gives access to the secrets in one directory. Its methods may be
// called at the same time. Their errors about a tenant's name are
// InvalidArgument; DataLoss if the tenant's file is damaged and
// FailedPrecondition if it may not be trusted or is for another key, each
// until it is put right, without effect on other tenants.
type Store struct {
	dir, keyFile string

	// write is held by whoever changes files. It comes before mu, which
	// guards what follows.
	write sync.Mutex
	mu    sync.RWMutex
	key   *age.X25519Identity
	next  *age.X25519Identity // of a rotation that is not finished, else nil
	known map[string]*vault   // by tenant: each is decrypted once
}

// Open opens the secrets in dir with the key in keyFile, and makes both where
// they are missing. It finishes a rotation that a crash interrupted.
// FailedPrecondition if dir or the key is missing, damaged or accessible to
// others while files of secrets are there, or is the key of none of them.
func Open(dir, keyFile string) (*Store, error) {
	s := &Store{dir: dir, keyFile: keyFile, known: map[string]*vault{}}
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	if err := s.tidy(); err != nil {
		return nil, err
	}
	tenants, err := s.tenants()
	if err != nil {
		return nil, err
	}
	if err := s.openKeys(len(tenants) > 0); err != nil {
		return nil, err
	}
	foreign, broken := 0, 0
	for _, tenant := range tenants {
		if _, err := s.vault(tenant); err != nil {
			broken++
			if isForeign(err) {
				foreign++
			}
		}
	}
	if foreign > 0 && foreign == len(tenants) {
		return nil, wrongKey(keyFile)
	}
	if s.next != nil && broken == 0 {
		if err := s.finish(context.Background()); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Set makes the secret meta.Name, or replaces it, and returns it as it is
// kept: with its times, and with port 443 where meta names none. Of meta, the
// times do not count. InvalidArgument, saying what to change, if meta or the
// value cannot be used; ResourceExhausted beyond MaxSecrets.
func (s *Store) Set(ctx context.Context, tenant string, meta Secret, value string) (Secret, error) {
	meta, err := check(meta, value)
	if err != nil {
		return Secret{}, err
	}
	meta.Actor = plugin.Printable(meta.Actor, maxActor)
	meta.UpdatedAt = time.Now().UTC().Truncate(time.Millisecond)
	meta.CreatedAt = meta.UpdatedAt
	err = s.change(ctx, tenant, func(items map[string]item) error {
		if old, ok := items[meta.Name]; ok {
			meta.CreatedAt = old.meta.CreatedAt
		} else if len(items) >= MaxSecrets {
			return fault.New(errdefs.ErrResourceExhausted, "too_many_secrets", "the tenant has %d secrets already", len(items)).
				WithHint("remove one that is not needed with `ocmt secrets rm NAME`")
		}
		items[meta.Name] = item{meta, value}
		return nil
	})
	if err != nil {
		return Secret{}, err
	}
	return meta, nil
}

// List returns the tenant's secrets by name.
func (s *Store) List(tenant string) ([]Secret, error) {
	v, err := s.vault(tenant)
	if err != nil {
		return nil, err
	}
	list := make([]Secret, 0, len(v.items))
	for _, name := range slices.Sorted(maps.Keys(v.items)) {
		list = append(list, v.items[name].meta)
	}
	return list, nil
}

// Get returns one secret of the tenant. NotFound.
func (s *Store) Get(tenant, name string) (Secret, error) {
	it, err := s.item(tenant, name)
	return it.meta, err
}

// Value returns the value of a secret. NotFound.
func (s *Store) Value(tenant, name string) (string, error) {
	it, err := s.item(tenant, name)
	return it.value, err
}

// Remove removes a secret. NotFound.
func (s *Store) Remove(ctx context.Context, tenant, name string) error {
	return s.change(ctx, tenant, func(items map[string]item) error {
		if _, ok := items[name]; !ok {
			return notFound(tenant, name)
		}
		delete(items, name)
		return nil
	})
}

// RemoveTenant removes all secrets of a tenant, and a damaged file as well.
// Placeholders of that time mean nothing afterwards.
func (s *Store) RemoveTenant(ctx context.Context, tenant string) error {
	path, err := s.path(tenant)
	if err != nil {
		return err
	}
	s.write.Lock()
	defer s.write.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := removeFile(path); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, tenant)
	return nil
}

// Placeholder returns what the plugin holds in place of a secret's value. It
// is the same whenever it is asked for, whether or not the secret is there,
// from the first Set of the tenant on until RemoveTenant; before that, as long
// as the Store is open. Another plugin has another one and cannot guess this.
// It is empty if the tenant's secrets cannot be read, which Value reports.
func (s *Store) Placeholder(key plugin.Key, name string) string {
	v, err := s.vault(key.Tenant)
	if err != nil {
		return ""
	}
	h := hmac.New(sha256.New, v.salt)
	h.Write([]byte(key.String() + "/" + name)) // no part holds a slash
	sum := h.Sum(nil)[:placeholderBytes]
	return PlaceholderPrefix + strings.ToLower(base32.StdEncoding.EncodeToString(sum))
}

// String names the directory and nothing in it.
func (s *Store) String() string { return "secrets in " + s.dir }

// GoString is String, so that no verb of fmt prints more.
func (s *Store) GoString() string { return s.String() }

func (s *Store) item(tenant, name string) (item, error) {
	v, err := s.vault(tenant)
	if err != nil {
		return item{}, err
	}
	it, ok := v.items[name]
	if !ok {
		return item{}, notFound(tenant, name)
	}
	return it, nil
}

func notFound(tenant, name string) error {
	return fault.New(errdefs.ErrNotFound, "secret_not_found", "there is no secret %s of tenant %s",
		plugin.Printable(name, plugin.MaxVariableLen), tenant).
		WithHint("set it with `ocmt secrets set NAME --host HOST --header HEADER`; `ocmt secrets list` shows those there are")
}

// vault returns the tenant's secrets, from the file when they are first asked
// for, and an empty one if there is no file.
func (s *Store) vault(tenant string) (*vault, error) {
	s.mu.RLock()
	v := s.known[tenant]
	s.mu.RUnlock()
	if v != nil {
		return v, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.known[tenant]; v != nil {
		return v, nil
	}
	v, err := s.load(tenant)
	if err != nil {
		return nil, err
	}
	s.known[tenant] = v
	return v, nil
}

// change applies edit to a copy of the tenant's secrets and puts that in their
// place when it is on the disk.
func (s *Store) change(ctx context.Context, tenant string, edit func(map[string]item) error) error {
	s.write.Lock()
	defer s.write.Unlock()
	old, err := s.vault(tenant)
	if err != nil {
		return err
	}
	v := &vault{salt: old.salt, items: maps.Clone(old.items)}
	if err := edit(v.items); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	err = s.save(tenant, v)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		// Which of the two is on the disk is not known: ask it.
		switch now, loadErr := s.load(tenant); {
		case loadErr != nil:
			delete(s.known, tenant)
		case bytes.Equal(now.salt, old.salt):
			s.known[tenant] = now
		}
		return err
	}
	s.known[tenant] = v
	return nil
}
