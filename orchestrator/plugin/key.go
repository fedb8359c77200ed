package plugin

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"
)

// DefaultTenant is the tenant of every command that names none. It is a
// tenant like any other.
const DefaultTenant = "default"

// Key names one installed plugin on this host.
type Key struct {
	Tenant string
	ID     string
}

// String returns "tenant/id".
func (k Key) String() string { return k.Tenant + "/" + k.ID }

// Bounds of names, in bytes. That of package names is npm's own.
const (
	MaxIDLen          = 100
	MaxTenantLen      = 63
	MaxToolLen        = 128
	MaxPackageNameLen = 214
)

var (
	idPattern     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)
	tenantPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	namePattern   = regexp.MustCompile(`^(@[A-Za-z0-9~][A-Za-z0-9._~-]*/)?[A-Za-z0-9~][A-Za-z0-9._~-]*$`)
)

// CheckID reports why id is no plugin id: letters, digits, "-" and "_",
// starting with a letter or digit, at most MaxIDLen. InvalidArgument.
func CheckID(id string) error { return check("plugin id", id, MaxIDLen, idPattern) }

// CheckToolName reports why name is no tool name: as a plugin id, at most
// MaxToolLen. The model providers accept no more than that. InvalidArgument.
func CheckToolName(name string) error { return check("tool name", name, MaxToolLen, idPattern) }

// CheckTenant reports why name is no tenant: a DNS label in lower case.
// InvalidArgument.
func CheckTenant(name string) error { return check("tenant", name, MaxTenantLen, tenantPattern) }

// CheckPackageName reports why name is no npm package name, with or without a
// scope. Upper case is legal in old names. InvalidArgument.
func CheckPackageName(name string) error {
	if strings.EqualFold(name, "node_modules") {
		return fmt.Errorf("no package can have the name %q: %w", name, errdefs.ErrInvalidArgument)
	}
	return check("package name", name, MaxPackageNameLen, namePattern)
}

func check(what, s string, limit int, pattern *regexp.Regexp) error {
	switch {
	case s == "":
		return fmt.Errorf("the %s is empty: %w", what, errdefs.ErrInvalidArgument)
	case len(s) > limit:
		return fmt.Errorf("the %s %.20q... has %d characters, at most %d are allowed: %w", what, s, len(s), limit, errdefs.ErrInvalidArgument)
	case !pattern.MatchString(s):
		return fmt.Errorf("the %s %q may hold only %s: %w", what, s, allowed(pattern), errdefs.ErrInvalidArgument)
	}
	return nil
}

func allowed(p *regexp.Regexp) string {
	switch p {
	case tenantPattern:
		return "lower-case letters, digits and inner hyphens"
	case namePattern:
		return `letters, digits, "-", "_", "." and "~", after one "@scope/" at most`
	}
	return `letters, digits, "-" and "_", and must start with a letter or digit`
}
