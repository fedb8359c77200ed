package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/config"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
	"github.com/ocmt/ocmt/orchestrator/secrets"
	"github.com/ocmt/ocmt/orchestrator/supervisor"
)

// secretAPI implements httpapi.Secrets.
type secretAPI struct{ d *Daemon }

func (d *Daemon) openSecrets(context.Context) (err error) {
	d.secrets, err = secrets.Open(d.home.Secrets(), d.home.SecretsKey())
	return err
}

func (b secretAPI) Secrets(_ context.Context, tenant string) ([]v1.Secret, error) {
	list, err := b.d.secrets.List(tenant)
	out := make([]v1.Secret, len(list))
	for i, s := range list {
		out[i] = b.d.secretOf(tenant, s)
	}
	return out, err
}

func (d *Daemon) secretOf(tenant string, s secrets.Secret) v1.Secret {
	out := v1.Secret{
		Name: s.Name, Host: s.Host, Port: s.Port, Header: s.Header, Query: s.Query, Env: s.Env,
		CreatedAt: s.CreatedAt, UpdatedAt: s.UpdatedAt, Actor: s.Actor, Plugins: []string{},
	}
	for _, p := range d.usersOf(tenant, s.Name) {
		out.Plugins = append(out.Plugins, p.Key.ID)
	}
	return out
}

// usersOf returns the plugins that were granted a secret, as a placeholder or
// as a variable.
func (d *Daemon) usersOf(tenant, name string) []plugin.Installed {
	return slices.DeleteFunc(d.catalog.list(tenant), func(p plugin.Installed) bool {
		return !slices.ContainsFunc(d.authority.Grants(p.Key), func(g policy.Grant) bool {
			return (g.Kind == policy.Secret || g.Kind == policy.Env) && g.Target == name
		})
	})
}

func (b secretAPI) SetSecret(ctx context.Context, tenant, name string, req v1.SetSecret) (out v1.Secret, err error) {
	meta := metaOf(ctx, name, req.SecretUse)
	err = b.d.audited(ctx, plugin.Key{Tenant: tenant}, "secret.set", describeSecret(meta), func() error {
		set, err := b.d.secrets.Set(ctx, tenant, meta, req.Value)
		out = b.d.secretOf(tenant, set)
		return err
	})
	if err == nil {
		err = b.d.secretChanged(ctx, tenant, name)
	}
	return out, err
}

func metaOf(ctx context.Context, name string, use v1.SecretUse) secrets.Secret {
	return secrets.Secret{
		Name: name, Host: use.Host, Port: use.Port, Header: use.Header, Query: use.Query, Env: use.Env, Actor: actorOf(ctx),
	}
}

// describeSecret says for the record what a secret may be used for.
func describeSecret(s secrets.Secret) string {
	words := []string{plugin.Printable(s.Name, plugin.MaxVariableLen)}
	for _, use := range []struct{ name, value string }{{"host", s.Host}, {"header", s.Header}, {"query", s.Query}} {
		if use.value != "" {
			words = append(words, use.name+"="+plugin.Printable(use.value, 256))
		}
	}
	if s.Env {
		words = append(words, "env")
	}
	return strings.Join(words, " ")
}

// secretChanged puts a secret that was set or removed into force: connections
// at once, and what is handed to a plugin by its restart.
func (d *Daemon) secretChanged(ctx context.Context, tenant, name string) error {
	var errs []error
	for _, p := range d.usersOf(tenant, name) {
		d.authority.Refresh(p.Key) // sets the network
		if err := d.restartStale(ctx, p.Key); err != nil {
			errs = append(errs, fmt.Errorf("the secret is changed, but plugin %s does not run with it: %w", p.Key.ID, err))
		}
	}
	return errors.Join(errs...)
}

// restartStale replaces an instance that is made of what does not count any
// more. One that waits for its next attempt may have failed for what was
// changed.
func (d *Daemon) restartStale(ctx context.Context, key plugin.Key) error {
	state := d.state(key)
	if state != supervisor.StateBackoff && state != supervisor.StateCrashlooped {
		_, err := d.restartFor(ctx, key)
		return err
	}
	if !d.stale(key) {
		return nil
	}
	if err := d.supervisor.Replace(ctx, key); err != nil && !errdefs.IsFailedPrecondition(err) {
		return err
	}
	return nil
}

func (b secretAPI) RemoveSecret(ctx context.Context, tenant, name string) error {
	if _, err := b.d.secrets.Get(tenant, name); err != nil {
		return err
	}
	if users := b.d.usersOf(tenant, name); len(users) > 0 {
		return fault.New(errdefs.ErrFailedPrecondition, "secret_in_use", "the secret %s is granted to plugin %s", plugin.Printable(name, plugin.MaxVariableLen), users[0].Key.ID).
			WithHint("take it back first: ocmt plugins revoke %s%s secret %s", users[0].Key.ID, tenantFlag(tenant), name)
	}
	return b.d.audited(ctx, plugin.Key{Tenant: tenant}, "secret.remove", plugin.Printable(name, plugin.MaxVariableLen), func() error {
		return b.d.secrets.Remove(ctx, tenant, name)
	})
}

func (b secretAPI) RotateSecrets(ctx context.Context) error {
	return b.d.audited(ctx, plugin.Key{}, "secret.rotate", "", func() error { return b.d.secrets.Rotate(ctx) })
}

// MoveSecret makes a secret of a key in a plugin's configuration, grants it, and
// leaves a reference in its place. The secret is there before the key is gone.
func (b secretAPI) MoveSecret(ctx context.Context, tenant, ref string, req v1.MoveSecret) (v1.Secret, error) {
	p, err := b.d.catalog.get(tenant, ref)
	if err != nil {
		return v1.Secret{}, err
	}
	if _, err := b.d.secrets.Get(tenant, req.Name); !errdefs.IsNotFound(err) {
		if err != nil {
			return v1.Secret{}, err
		}
		return v1.Secret{}, fault.New(errdefs.ErrAlreadyExists, "secret_exists", "there is a secret %s already", plugin.Printable(req.Name, plugin.MaxVariableLen)).
			WithHint("take another name, or remove that one: ocmt secrets rm %s%s", plugin.Printable(req.Name, plugin.MaxVariableLen), tenantFlag(tenant))
	}
	kind := policy.Secret
	if req.Host == "" {
		kind = policy.Env
	}
	g, err := policy.ParseGrant(string(kind), req.Name, "")
	if err != nil {
		return v1.Secret{}, err
	}
	g.Origin, g.Actor, g.At = policy.OriginGrant, actorOf(ctx), time.Now().UTC()
	var set secrets.Secret
	err = b.d.audited(ctx, p.Key, "secret.move", describeSecret(metaOf(ctx, req.Name, req.SecretUse)), func() (err error) {
		set, err = b.d.moveSecret(ctx, p.Key, req)
		if err == nil {
			err = b.d.authority.Grant(ctx, p.Key, g)
		}
		return err
	})
	if err != nil {
		return v1.Secret{}, err
	}
	b.d.tellPermission(p.Key, "granted", permissionOf(g))
	if err := b.d.restartStale(ctx, p.Key); err != nil {
		return v1.Secret{}, fmt.Errorf("the key is moved, but plugin %s does not run with it: %w", p.Key.ID, err)
	}
	return b.d.secretOf(tenant, set), nil
}

// moveSecret takes the key out of config.json. When that fails, there is no
// secret either.
func (d *Daemon) moveSecret(ctx context.Context, key plugin.Key, req v1.MoveSecret) (secrets.Secret, error) {
	entry, _ := d.catalog.entry(key)
	raw, pointer, err := entry.ConfigValue(req.Path)
	if err != nil {
		return secrets.Secret{}, err
	}
	var value string
	if err := json.Unmarshal(raw, &value); err != nil || value == "" {
		return secrets.Secret{}, fault.New(errdefs.ErrInvalidArgument, "config_no_text", "plugins.entries.%s.config.%s is no text", key.ID, plugin.Printable(req.Path, plugin.MaxConfigPathLen)).
			WithHint("name the path of one key, for example: auth.apiKey")
	}
	set, err := d.secrets.Set(ctx, key.Tenant, metaOf(ctx, req.Name, req.SecretUse), value)
	if err != nil {
		return secrets.Secret{}, err
	}
	reference, err := json.Marshal(map[string]string{"source": "ocmt", "id": req.Name})
	if err == nil {
		err = d.editConfig(ctx, key.Tenant, func(e *config.Edit) error { return e.ReplaceConfigValue(key.ID, pointer, raw, reference) })
	}
	if err != nil {
		return secrets.Secret{}, errors.Join(err, d.secrets.Remove(context.WithoutCancel(ctx), key.Tenant, req.Name))
	}
	return set, nil
}
