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

func (b secretAPI) SetSecret(ctx context.Context, tenant, name string, req v1.SetSecret) (v1.Secret, error) {
	set, err := b.d.setSecret(ctx, tenant, metaOf(ctx, name, req.SecretUse), req.Value)
	if err != nil {
		return v1.Secret{}, err
	}
	return b.d.secretOf(tenant, set), b.d.secretChanged(ctx, tenant, name)
}

func (d *Daemon) setSecret(ctx context.Context, tenant string, meta secrets.Secret, value string) (set secrets.Secret, err error) {
	d.granting.Lock()
	defer d.granting.Unlock()
	err = d.audited(ctx, plugin.Key{Tenant: tenant}, "secret.set", describeSecret(meta), func() (err error) {
		set, err = d.secrets.Set(ctx, tenant, meta, value)
		return err
	})
	return set, err
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
	if s.Port != 0 {
		words = append(words, fmt.Sprintf("port=%d", s.Port))
	}
	if s.Env {
		words = append(words, "env")
	}
	return strings.Join(words, " ")
}

// secretChanged puts a secret that was set into force: connections at once, and
// what is handed to a plugin by its restart.
func (d *Daemon) secretChanged(ctx context.Context, tenant, name string) error {
	var errs []error
	for _, p := range d.usersOf(tenant, name) {
		d.authority.Refresh(p.Key)                          // sets the network
		err := d.checkNetwork(p, d.authority.Grants(p.Key)) // else it is not sent
		if err == nil {
			err = d.restartStale(ctx, p.Key)
		}
		if err != nil {
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
	b.d.granting.Lock()
	defer b.d.granting.Unlock()
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
// leaves a reference in its place.
func (b secretAPI) MoveSecret(ctx context.Context, tenant, ref string, req v1.MoveSecret) (v1.Secret, error) {
	p, err := b.d.catalog.get(tenant, ref)
	if err != nil {
		return v1.Secret{}, err
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
	set, err := b.d.moveSecret(ctx, p, req, g)
	if err != nil {
		return v1.Secret{}, err
	}
	b.d.tellPermission(p.Key, "granted", permissionOf(g))
	return b.d.secretOf(tenant, set), b.d.secretChanged(ctx, tenant, req.Name)
}

// moveSecret moves a key and grants what it became.
func (d *Daemon) moveSecret(ctx context.Context, p plugin.Installed, req v1.MoveSecret, g policy.Grant) (set secrets.Secret, err error) {
	d.granting.Lock()
	defer d.granting.Unlock()
	if err := d.noSecret(p.Key.Tenant, req.Name); err != nil {
		return secrets.Secret{}, err
	}
	err = d.audited(ctx, p.Key, "secret.move", describeSecret(metaOf(ctx, req.Name, req.SecretUse)), func() (err error) {
		if set, err = d.replaceKey(ctx, p, req, g); err != nil {
			return err
		}
		if err := d.authority.Grant(context.WithoutCancel(ctx), p.Key, g); err != nil {
			return fmt.Errorf("the key is the secret %s now, but it cannot be granted to plugin %s: %w", set.Name, p.Key.ID, err)
		}
		return nil
	})
	return set, err
}

// noSecret refuses to take a name twice.
func (d *Daemon) noSecret(tenant, name string) error {
	_, err := d.secrets.Get(tenant, name)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	shown := plugin.Printable(name, plugin.MaxVariableLen)
	return fault.New(errdefs.ErrAlreadyExists, "secret_exists", "there is a secret %s already", shown).
		WithHint("take another name, or remove that one: ocmt secrets rm %s%s", shown, tenantFlag(tenant))
}

// replaceKey takes the key out of config.json. The secret is there before the
// key is gone; when the key stays, there is no secret either.
func (d *Daemon) replaceKey(ctx context.Context, p plugin.Installed, req v1.MoveSecret, g policy.Grant) (secrets.Secret, error) {
	raw, pointer, value, err := d.keyInConfig(p.Key, req.Path)
	if err != nil {
		return secrets.Secret{}, err
	}
	set, err := d.secrets.Set(ctx, p.Key.Tenant, metaOf(ctx, req.Name, req.SecretUse), value)
	if err != nil {
		return secrets.Secret{}, err
	}
	reference, err := json.Marshal(map[string]string{"source": "ocmt", "id": req.Name})
	if err == nil {
		err = d.checkGrants(p, g)
	}
	if err == nil {
		err = d.editConfig(ctx, p.Key.Tenant, func(e *config.Edit) error { return e.ReplaceConfigValue(p.Key.ID, pointer, raw, reference) })
	}
	if err == nil {
		return set, nil
	}
	if _, _, _, gone := d.keyInConfig(p.Key, req.Path); gone != nil {
		return secrets.Secret{}, fmt.Errorf("the secret %s is kept, since the key may not be in config.json any more: %w", set.Name, err)
	}
	return secrets.Secret{}, errors.Join(err, d.secrets.Remove(context.WithoutCancel(ctx), p.Key.Tenant, req.Name))
}

// keyInConfig returns a text in a plugin's configuration, as it stands there
// and what it says.
func (d *Daemon) keyInConfig(key plugin.Key, path string) (raw json.RawMessage, pointer []string, value string, err error) {
	entry, _ := d.catalog.entry(key)
	if raw, pointer, err = entry.ConfigValue(path); err != nil {
		return nil, nil, "", err
	}
	if err := json.Unmarshal(raw, &value); err != nil || value == "" {
		return nil, nil, "", fault.New(errdefs.ErrInvalidArgument, "config_no_text", "plugins.entries.%s.config.%s is no text", key.ID, plugin.Printable(path, plugin.MaxConfigPathLen)).
			WithHint("name the path of one key, for example: auth.apiKey")
	}
	return raw, pointer, value, nil
}
