// Package policy decides what a plugin may do: what it asks for, what of that
// a person must agree to, what was granted, and what of it is in force.
//
// Everything here is pure: no clock, no files, no state. Nothing is allowed
// that no [Grant] names; config.json can only narrow that, and a wider wish in
// it becomes a request. What cannot be understood grants nothing.
package policy

import (
	"slices"
	"time"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Kind is what a permission is about.
type Kind string

// The kinds, with the spelling of their targets and values.
const (
	Network      Kind = "network"      // "host:port"; "plaintext,addresses=10.0.0.0/8 ...,rules=GET /v1/* ..."
	Workspace    Kind = "workspace"    // an absolute, clean path; "ro" or "rw"
	Secret       Kind = "secret"       // a name
	Env          Kind = "env"          // a name
	Config       Kind = "config"       // a dot path into config.json
	Hook         Kind = "hook"         // an event; rights: "observe,modify,block"
	Host         Kind = "host"         // a host.* method without the prefix
	Resource     Kind = "resource"     // "memory", "cpus", "pids" or "state"; an amount
	Registration Kind = "registration" // "kind:name", for example "tool:echo"
)

// kinds is the order in which permissions are shown.
var kinds = []Kind{Registration, Hook, Network, Workspace, Secret, Env, Config, Host, Resource}

// Targets of the kind Resource.
const (
	Memory = "memory"
	CPUs   = "cpus"
	PIDs   = "pids"
	State  = "state" // the size of /state
)

// Where a permission comes from.
const (
	OriginManifest     = "manifest"     // asked for by the manifest
	OriginRegistration = "registration" // asked for by what the plugin registered
	OriginConfig       = "config"       // asked for by config.json
	OriginRuntime      = "runtime"      // asked for by what the plugin tried
	OriginReview       = "review"       // granted by the answer to a review
	OriginGrant        = "grant"        // granted by a person on their own account
	OriginApproval     = "approval"     // granted by resolving a request
	OriginRun          = "run"          // allowed until the plugin's instance ends
)

// Grant is something that a person let a plugin do. A plugin has at most one
// grant of each kind and target. Make it with [ParseGrant].
type Grant struct {
	Kind   Kind
	Target string
	Value  string
	Origin string
	Actor  string // who granted it
	At     time.Time
	// ExpiresAt is when it ends by itself; zero is never.
	ExpiresAt time.Time
}

// Merge returns list with grants in place of those about the same.
func Merge(list, grants []Grant) []Grant {
	merged := slices.Clone(list)
	for _, g := range grants {
		merged = slices.DeleteFunc(merged, func(have Grant) bool { return have.Kind == g.Kind && have.Target == g.Target })
		merged = append(merged, g)
	}
	return merged
}

// Expired reports whether the grant has ended at now.
func (g Grant) Expired(now time.Time) bool {
	return !g.ExpiresAt.IsZero() && !now.Before(g.ExpiresAt)
}

// Class says what it takes to be granted an [Ask].
type Class string

// The classes.
const (
	// Basic is granted with the install.
	Basic Class = "basic"
	// Sensitive needs a person's yes or --accept-permissions.
	Sensitive Class = "sensitive"
	// NeedsDetail cannot be granted as it is: a workspace needs a path, a
	// secret must be set, a host on a private network needs its addresses.
	NeedsDetail Class = "needs_detail"
	// Wish is a guess at what the plugin wants, never granted with others.
	Wish Class = "wish"
)

// Ask is something that a plugin, or config.json for it, asks for. Target is
// empty of a workspace.
type Ask struct {
	Kind   Kind
	Target string
	Value  string
	Origin string
	Class  Class
	Reason string // for people; may be empty
}

// Explain says in a sentence what the ask asks for.
func (a Ask) Explain() string { return Explain(a.Kind, a.Target, a.Value) }

// Explain says in a sentence what the grant grants.
func (g Grant) Explain() string { return Explain(g.Kind, g.Target, g.Value) }

// Limits are the resources that a plugin has without a grant. Every field is
// larger than zero.
type Limits struct {
	Memory int64 // bytes
	CPUs   float64
	PIDs   int64
	State  int64 // bytes of the plugin's own directory
}

// defaultState is the size of /state in bytes, whatever the level of trust.
const defaultState = 256 << 20

// DefaultLimits are those of a plugin from a source that asks for nothing.
func DefaultLimits(source plugin.Source) Limits {
	r := plugin.TrustOf(source).Level().Resources
	return Limits{Memory: int64(r.Memory), CPUs: r.CPUs, PIDs: r.PIDs, State: defaultState}
}

// Covers reports whether the grant lets the plugin do all that is asked. It
// does not look at the time.
func (g Grant) Covers(a Ask) bool {
	if g.Kind != a.Kind {
		return false
	}
	switch g.Kind {
	case Network:
		return coversNetwork(g, a)
	case Workspace:
		return (a.Target == "" || a.Target == g.Target) && (g.Value == plugin.WorkspaceRW || a.Value == plugin.WorkspaceRO)
	case Hook:
		return g.Target == a.Target && withinRights(parseRights(a.Target, a.Value), parseRights(g.Target, g.Value))
	case Resource:
		return g.Target == a.Target && atMost(a.Target, a.Value, g.Value)
	case Config:
		return withinPath(a.Target, g.Target)
	default:
		return g.Target == a.Target
	}
}

// covered reports whether a grant that has not ended covers the ask.
func covered(a Ask, grants []Grant, now time.Time) bool {
	for _, g := range grants {
		if !g.Expired(now) && g.Covers(a) {
			return true
		}
	}
	return false
}
