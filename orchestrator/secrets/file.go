package secrets

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/age"
	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// formatVersion is that of the decrypted JSON.
const formatVersion = 1

// maxFile bounds a file, in bytes: MaxSecrets values of MaxValue bytes, of
// which JSON makes up to six each, and what is said of them.
const maxFile = MaxSecrets*(6*MaxValue+4<<10) + 1<<20

// contents is what a tenant's file holds when it is decrypted. It names the
// tenant, so that a file in the place of another one is noticed.
type contents struct {
	Version int      `json:"version"`
	Tenant  string   `json:"tenant"`
	Salt    []byte   `json:"salt"`
	Secrets []record `json:"secrets"`
}

type record struct {
	Secret
	Value string `json:"value"`
}

func (s *Store) path(tenant string) (string, error) {
	if err := plugin.CheckTenant(tenant); err != nil {
		return "", err
	}
	return filepath.Join(s.dir, tenant+fileSuffix), nil
}

// tenants returns those that have a file.
func (s *Store) tenants() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, unreadable(s.dir, err)
	}
	var names []string
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), fileSuffix)
		if ok && plugin.CheckTenant(name) == nil {
			names = append(names, name)
		}
	}
	return names, nil
}

// load reads the tenant's file; a vault that is new if there is none.
func (s *Store) load(tenant string) (*vault, error) {
	path, err := s.path(tenant)
	if err != nil {
		return nil, err
	}
	data, err := readOwn(path, maxFile)
	if err != nil {
		return nil, err
	}
	if data == nil {
		return newVault(), nil
	}
	identities := []age.Identity{s.key}
	if s.next != nil {
		identities = append(identities, s.next)
	}
	plain, err := decrypt(data, identities)
	var foreign *age.NoIdentityMatchError
	if errors.As(err, &foreign) {
		return nil, fault.New(errdefs.ErrFailedPrecondition, codeForeign, "cannot read the secrets in %s: it is encrypted for another key", path).
			WithHint("put back the file that belongs to the key %s, or remove it and set the tenant's secrets anew", s.keyFile)
	}
	if err != nil {
		return nil, damaged(path, "was changed or cut off")
	}
	v, problem := decode(tenant, plain)
	if problem != "" {
		return nil, damaged(path, problem)
	}
	return v, nil
}

const codeForeign = "secrets_other_key"

func isForeign(err error) bool { return fault.Of(err).Code == codeForeign }

// save writes the tenant's file, for the key of a rotation if one is under
// way. The caller holds s.write.
func (s *Store) save(tenant string, v *vault) error {
	path, err := s.path(tenant)
	if err != nil {
		return err
	}
	plain, err := encode(tenant, v)
	if err != nil {
		return err
	}
	s.mu.RLock()
	to := s.key
	if s.next != nil {
		to = s.next
	}
	s.mu.RUnlock()
	data, err := encrypt(plain, to.Recipient())
	if err != nil {
		return fault.New(errdefs.ErrInternal, "internal", "cannot encrypt the secrets of tenant %s: %w", tenant, err)
	}
	return replaceFile(path, data)
}

func encode(tenant string, v *vault) ([]byte, error) {
	c := contents{Version: formatVersion, Tenant: tenant, Salt: v.salt, Secrets: []record{}}
	for _, it := range v.items {
		c.Secrets = append(c.Secrets, record{it.meta, it.value})
	}
	plain, err := json.Marshal(c)
	if err != nil {
		return nil, fault.New(errdefs.ErrInternal, "internal", "cannot encode the secrets of tenant %s: %w", tenant, err)
	}
	return plain, nil
}

// decode returns what encode was given, or what is wrong with it, without any
// part of it.
func decode(tenant string, plain []byte) (v *vault, problem string) {
	var c contents
	err := json.Unmarshal(plain, &c)
	switch {
	case c.Version > formatVersion:
		return nil, "was written by a newer ocmt, which is needed to read it"
	case err != nil || c.Version != formatVersion:
		return nil, "holds no secrets of ocmt"
	case c.Tenant != tenant:
		return nil, "holds the secrets of another tenant"
	case len(c.Salt) != sha256.Size:
		return nil, "lacks its salt"
	case len(c.Secrets) > MaxSecrets:
		return nil, fmt.Sprintf("holds %d secrets, more than a tenant can have", len(c.Secrets))
	}
	v = &vault{salt: c.Salt, items: make(map[string]item, len(c.Secrets))}
	for _, r := range c.Secrets {
		// What could be set once stays readable, even if it no longer could.
		if _, twice := v.items[r.Name]; twice || plugin.CheckSecretName(r.Name) != nil {
			return nil, "holds a secret that nobody can have set"
		}
		v.items[r.Name] = item{r.Secret, r.Value}
	}
	return v, ""
}

func encrypt(plain []byte, to age.Recipient) ([]byte, error) {
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func decrypt(data []byte, identities []age.Identity) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(data), identities...)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}
