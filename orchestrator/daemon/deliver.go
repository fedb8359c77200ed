package daemon

import (
	"encoding/json"
	"os"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
	"github.com/ocmt/ocmt/orchestrator/secrets"
)

// delivery is what a plugin is handed of secrets and variables.
type delivery struct {
	env map[string]string // what the runner sets; placeholders among it
	// placeholders are those of the secrets that were granted, by name.
	placeholders map[string]string
	// plain are the values of the secrets that are handed out as variables.
	plain map[string]string
	// made says what of the secrets env was made of, without values: another one
	// asks for a restart.
	made []string
}

// deliver says what a plugin is handed now. Without a secret that was granted
// there is nothing to start it with.
func (d *Daemon) deliver(key plugin.Key, allowed policy.Effective) (delivery, error) {
	out := delivery{env: map[string]string{}, placeholders: map[string]string{}, plain: map[string]string{}}
	for _, name := range allowed.Env {
		if slices.Contains(allowed.Secrets, name) {
			continue // the placeholder has that name
		}
		if err := d.deliverVariable(key, name, &out); err != nil {
			return delivery{}, err
		}
	}
	for _, name := range allowed.Secrets {
		secret, err := d.boundSecret(key, name)
		if err != nil {
			return delivery{}, err
		}
		placeholder := d.secrets.Placeholder(key, name)
		if plugin.CheckEnvName(name) == nil { // others are found by references alone
			out.env[name] = placeholder
		}
		out.placeholders[name] = placeholder
		out.made = append(out.made, secret.Name)
	}
	return out, nil
}

// deliverVariable hands out a granted variable: a secret of that name which its
// owner lets out in plain, else the daemon's own.
func (d *Daemon) deliverVariable(key plugin.Key, name string, out *delivery) error {
	secret, err := d.secrets.Get(key.Tenant, name)
	switch {
	case errdefs.IsNotFound(err):
		value, ok := os.LookupEnv(name)
		if !ok {
			d.logger.Warn("a granted environment variable is not set for the daemon", "tenant", key.Tenant, "plugin", key.ID, "name", name)
			return nil
		}
		out.env[name] = value
		return nil
	case err != nil:
		return err
	case !secret.Env:
		return errNotPlain(key.Tenant, name)
	}
	value, err := d.secrets.Value(key.Tenant, name)
	if err != nil {
		return err
	}
	out.env[name], out.plain[name] = value, value
	out.made = append(out.made, name+" "+secret.UpdatedAt.String())
	return nil
}

// boundSecret returns a secret that a placeholder can stand for.
func (d *Daemon) boundSecret(key plugin.Key, name string) (secrets.Secret, error) {
	secret, err := d.secrets.Get(key.Tenant, name)
	shown := plugin.Printable(name, plugin.MaxVariableLen)
	switch {
	case errdefs.IsNotFound(err):
		return secrets.Secret{}, fault.New(errdefs.ErrFailedPrecondition, "secret_missing", "the secret %s, which plugin %s asks for, is not set", shown, key.ID).
			WithHint("set it: ocmt secrets set %s%s --host HOST --header HEADER", shown, tenantFlag(key.Tenant))
	case err == nil && secret.Host == "":
		return secrets.Secret{}, fault.New(errdefs.ErrFailedPrecondition, "secret_unbound", "the secret %s is bound to no host", shown).
			WithHint("bind it: ocmt secrets set %[1]s%[2]s --host HOST --header HEADER; or hand it out in plain: ocmt plugins grant %[3]s%[2]s env %[1]s", shown, tenantFlag(key.Tenant), key.ID)
	}
	return secret, err
}

func errNotPlain(tenant, name string) error {
	shown := plugin.Printable(name, plugin.MaxVariableLen)
	return fault.New(errdefs.ErrPermissionDenied, "secret_not_plain", "%s is a secret whose owner does not let it out in plain", shown).
		WithHint("grant the secret instead of the variable; or set it again with --env: ocmt secrets set %s%s --env", shown, tenantFlag(tenant))
}

// tenantFlag is what a command needs for a tenant.
func tenantFlag(tenant string) string {
	if tenant == plugin.DefaultTenant {
		return ""
	}
	return " --tenant " + tenant
}

// view returns the configuration as the plugin sees it: references to secrets
// that it was granted are their placeholders. Values are not in it.
func (d *Daemon) view(key plugin.Key, paths []string, given delivery) (whole, own json.RawMessage, err error) {
	if whole, own, err = d.catalog.view(key, paths); err != nil {
		return nil, nil, err
	}
	return fill(whole, own, given.placeholders)
}

// fill replaces references to secrets in a configuration.
func fill(whole, own json.RawMessage, texts map[string]string) (filledWhole, filledOwn json.RawMessage, err error) {
	text := func(name string) (string, bool) {
		value, ok := texts[name]
		return value, ok
	}
	if filledWhole, err = policy.FillSecrets(whole, text); err != nil {
		return nil, nil, err
	}
	filledOwn, err = policy.FillSecrets(own, text)
	return filledWhole, filledOwn, err
}

// grantedSecrets returns the secrets that placeholders of the plugin stand for.
func (d *Daemon) grantedSecrets(key plugin.Key, allowed policy.Effective) []secrets.Secret {
	var list []secrets.Secret
	for _, name := range allowed.Secrets {
		secret, err := d.boundSecret(key, name)
		if err != nil {
			d.logger.Warn("a granted secret is not used", "tenant", key.Tenant, "plugin", key.ID, "name", name, "error", err)
			continue
		}
		list = append(list, secret)
	}
	return list
}
