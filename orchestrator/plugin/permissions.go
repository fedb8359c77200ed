package plugin

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// Permissions is what a plugin asks for, in its manifest, and what
// plugins.entries.<id>.permissions of config.json narrows it to. Make it with
// [ParsePermissions], which leaves it normalised: lower-case ASCII hosts,
// sorted lists, nothing twice. Its JSON is a manifest's.
type Permissions struct {
	Network   []Network              `json:"network,omitempty"`
	Workspace string                 `json:"workspace,omitempty"` // "none", "ro" or "rw"
	State     StateLimit             `json:"state,omitzero"`
	Secrets   []string               `json:"secrets,omitempty"`
	Env       []string               `json:"env,omitempty"`
	Config    []string               `json:"config,omitempty"` // dot paths into config.json
	Hooks     map[string][]HookRight `json:"hooks,omitempty"`  // by event
	Host      []string               `json:"host,omitempty"`   // host.* methods without the prefix
	Resources Resources              `json:"resources,omitzero"`
}

// Network is a destination.
type Network struct {
	Host  string   `json:"host"` // a name, or "*.name" for one label
	Ports []uint16 `json:"ports"`
	// Rules are method and path patterns for inspected connections.
	Rules     []string `json:"rules,omitempty"`
	Plaintext bool     `json:"plaintext,omitempty"` // no TLS needed
}

// StateLimit bounds the plugin's own directory.
type StateLimit struct {
	Max Size `json:"max,omitempty"`
}

// Resources are limits of the container; a zero field asks for nothing.
type Resources struct {
	Memory Size    `json:"memory,omitempty"`
	CPUs   float64 `json:"cpus,omitempty"`
	PIDs   int64   `json:"pids,omitempty"`
}

// Values of Permissions.Workspace.
const (
	WorkspaceNone = "none"
	WorkspaceRO   = "ro"
	WorkspaceRW   = "rw"
)

// HostEmit is the host method that a manifest can ask for: host.emit.
const HostEmit = "emit"

// Bounds of a permission manifest.
const (
	MaxPermissionFile = 64 << 10 // bytes
	MaxPermissionList = 64       // entries of any list in it
	MaxRuleLen        = 512      // bytes
	MaxVariableLen    = 128      // bytes, of the name of a secret or a variable
	MaxConfigPathLen  = 512      // bytes
	MaxConfigDepth    = 16       // segments
	MaxEventLen       = 128      // bytes

	MinMemory Size    = 16 << 20
	MaxMemory Size    = 1 << 40
	MinState  Size    = 1 << 20
	MaxState  Size    = 1 << 40
	MinCPUs   float64 = 0.01
	MaxCPUs   float64 = 64
	MinPIDs   int64   = 16    // measured: with 12 Node does not get its threads and hangs
	MaxPIDs   int64   = 32768 // the kernel's own default
)

// PermissionError says which part of a permission manifest cannot be used,
// and what to write instead. Its class is InvalidArgument.
type PermissionError struct {
	// Pointer is the JSON pointer (RFC 6901) to the part.
	Pointer string
	// Problem says what is wrong, without the values of the manifest.
	Problem string
	// Hint says what to write instead, without the values of the manifest.
	Hint string

	value string // the offending text, quoted; may be empty
}

// Field returns the part in the spelling of people: "network[0].host", or
// "the permissions" for the whole.
func (e *PermissionError) Field() string { return fieldName(e.Pointer) }

// Error returns the field, its value and the problem.
func (e *PermissionError) Error() string {
	if e.value == "" {
		return e.Field() + " " + e.Problem
	}
	return fmt.Sprintf("%s (%s) %s", e.Field(), e.value, e.Problem)
}

// Unwrap returns the class.
func (e *PermissionError) Unwrap() error { return errdefs.ErrInvalidArgument }

// ParsePermissions reads a permission manifest. Errors are of class
// fault.ErrPlugin, code bad_permissions, and name the field and what to write
// instead.
func ParsePermissions(data []byte) (Permissions, error) {
	p, _, err := ReadPermissions(data)
	return p, badPermissions("the permission manifest", err)
}

// ReadPermissions reads a permission manifest and returns the names of the
// fields that it holds: a field that is there and empty narrows to nothing,
// where one that is absent says nothing. Unknown fields and names that are
// there twice are refused. Its error is a *[PermissionError].
func ReadPermissions(data []byte) (Permissions, []string, error) {
	root, err := readStrict(data)
	if err != nil {
		return Permissions{}, nil, err
	}
	fields, err := root.object()
	if err != nil {
		return Permissions{}, nil, err
	}
	var p Permissions
	var present []string
	for _, f := range fields {
		read, known := permissionFields[f.name]
		if f.name == "$schema" {
			continue // how editors find the schema
		}
		if !known {
			return Permissions{}, nil, f.problem("is no permission").
				hint("the permissions are %s", strings.Join(names(permissionFields), ", "))
		}
		if err := read(&p, f.node); err != nil {
			return Permissions{}, nil, err
		}
		present = append(present, f.name)
	}
	return p, present, nil
}

// permissionFields reads each field of a manifest.
var permissionFields = map[string]func(*Permissions, node) error{
	"network": func(p *Permissions, n node) (err error) { p.Network, err = readNetwork(n); return err },
	"workspace": func(p *Permissions, n node) (err error) {
		p.Workspace, err = n.oneOf(WorkspaceNone, WorkspaceRO, WorkspaceRW)
		return err
	},
	"state":   func(p *Permissions, n node) (err error) { p.State, err = readState(n); return err },
	"secrets": func(p *Permissions, n node) (err error) { p.Secrets, err = n.texts(CheckSecretName); return err },
	"env":     func(p *Permissions, n node) (err error) { p.Env, err = n.texts(CheckEnvName); return err },
	"config":  func(p *Permissions, n node) (err error) { p.Config, err = n.texts(CheckConfigPath); return err },
	"hooks":   func(p *Permissions, n node) (err error) { p.Hooks, err = readHooks(n); return err },
	"host":    func(p *Permissions, n node) (err error) { p.Host, err = n.texts(CheckHostMethod); return err },
	"resources": func(p *Permissions, n node) (err error) {
		p.Resources, err = readResources(n)
		return err
	},
}

// badPermissions makes an error of the plugin's from one of ReadPermissions.
func badPermissions(what string, err error) error {
	var p *PermissionError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &p):
		return err
	}
	// The cause is flattened: its class would be the caller's fault.
	return fault.New(fault.ErrPlugin, "bad_permissions", "cannot use %s: %s", what, p.Error()).WithHint("%s", p.Hint)
}
