package apitest

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// secret is a secret with its value.
type secret struct {
	v1.Secret
	tenant, value string
}

// Secrets returns those of tenant. There are none at first.
func (b *Backend) Secrets(_ context.Context, tenant string) ([]v1.Secret, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []v1.Secret
	for _, s := range b.secrets {
		if s.tenant == tenant {
			list = append(list, s.Secret)
		}
	}
	return list, nil
}

// SetSecret keeps a secret. One for "*.com" is refused.
func (b *Backend) SetSecret(ctx context.Context, tenant, name string, req v1.SetSecret) (v1.Secret, error) {
	switch {
	case req.Value == "":
		return v1.Secret{}, fault.New(errdefs.ErrInvalidArgument, "bad_secret", "the value of secret %s is empty", name)
	case len(req.Value) > v1.MaxSecret:
		return v1.Secret{}, fault.New(errdefs.ErrInvalidArgument, "bad_secret", "the value of secret %s has more than %d bytes", name, v1.MaxSecret)
	case strings.ContainsAny(req.Value, "\r\n"):
		return v1.Secret{}, fault.New(errdefs.ErrInvalidArgument, "bad_secret", "the value of secret %s has several lines", name)
	case req.Host == "*.com":
		return v1.Secret{}, fault.New(errdefs.ErrInvalidArgument, "bad_secret", "the host of secret %s is a wildcard over names of many owners", name)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.keep(ctx, tenant, name, req), nil
}

// keep needs the lock.
func (b *Backend) keep(ctx context.Context, tenant, name string, req v1.SetSecret) v1.Secret {
	s := secret{tenant: tenant, value: req.Value, Secret: v1.Secret{
		Name: name, Host: req.Host, Port: req.Port, Header: req.Header, Query: req.Query, Env: req.Env,
		CreatedAt: Epoch, UpdatedAt: Epoch, Actor: httpapi.CallerOf(ctx).Actor,
	}}
	if s.Host != "" {
		s.Port = cmp.Or(s.Port, 443)
	}
	if i := b.secret(tenant, name); i >= 0 {
		s.Plugins, b.secrets[i] = b.secrets[i].Plugins, s
		return s.Secret
	}
	b.secrets = append(b.secrets, s)
	slices.SortFunc(b.secrets, func(x, y secret) int { return cmp.Compare(x.Name, y.Name) })
	return s.Secret
}

// secret needs the lock.
func (b *Backend) secret(tenant, name string) int {
	return slices.IndexFunc(b.secrets, func(s secret) bool { return s.tenant == tenant && s.Name == name })
}

// RemoveSecret forgets a secret.
func (b *Backend) RemoveSecret(_ context.Context, tenant, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := b.secret(tenant, name)
	if i < 0 {
		return fault.New(errdefs.ErrNotFound, "secret_not_found", "there is no secret %q in tenant %s", name, tenant).
			WithHint("see them with: ocmt secrets list")
	}
	b.secrets = slices.Delete(b.secrets, i, i+1)
	return nil
}

// MoveSecret moves demo's "apiKey", whose value is "k-moved", and knows no other
// key.
func (b *Backend) MoveSecret(ctx context.Context, tenant, ref string, req v1.MoveSecret) (v1.Secret, error) {
	p, err := b.Get(ctx, tenant, ref)
	if err != nil {
		return v1.Secret{}, err
	}
	if p.ID != "demo" || req.Path != "apiKey" {
		return v1.Secret{}, fault.New(errdefs.ErrNotFound, "config_key_not_found", "the configuration of %s has no text at %s", p.ID, req.Path)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.secret(tenant, req.Name) >= 0 {
		return v1.Secret{}, fault.New(errdefs.ErrAlreadyExists, "secret_exists", "there is a secret %s already", req.Name)
	}
	b.keep(ctx, tenant, req.Name, v1.SetSecret{Value: "k-moved", SecretUse: req.SecretUse})
	s := &b.secrets[b.secret(tenant, req.Name)]
	s.Plugins = []string{p.ID}
	return s.Secret, nil
}

// RotateSecrets counts.
func (b *Backend) RotateSecrets(context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rotated++
	return nil
}

// SecretValue returns what a secret of tenant was set to.
func (b *Backend) SecretValue(tenant, name string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := b.secret(tenant, name); i >= 0 {
		return b.secrets[i].value
	}
	return ""
}

// Rotated returns how often the secrets were encrypted anew.
func (b *Backend) Rotated() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rotated
}
