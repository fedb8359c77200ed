package v1

import (
	"encoding/json"
	"time"
)

// Permission is something that a plugin may do, or asks for.
type Permission struct {
	Kind string `json:"kind" enum:"network,workspace,secret,env,config,hook,host,resource,registration"`
	// Target is what it is about, in the kind's own spelling.
	Target string `json:"target" example:"api.example.com:443"`
	// Value says how: of a hook its rights, of a workspace ro or rw, of a
	// network destination plaintext, rules and address ranges, of a resource its size.
	Value    string `json:"value,omitempty" example:"modify,block"`
	Sentence string `json:"sentence" doc:"the same for a person"`
	// Origin says who asked or granted: manifest, registration, config,
	// runtime, review, grant, approval, or run: an approval until the plugin's
	// instance ends.
	Origin    string     `json:"origin,omitempty"`
	Actor     string     `json:"actor,omitempty" doc:"who granted it"`
	GrantedAt *time.Time `json:"grantedAt,omitempty"`
	ExpiresAt *time.Time `json:"expiresAt,omitempty"`
	// Sensitive permissions need a person's yes, or --accept-permissions.
	Sensitive bool `json:"sensitive,omitempty"`
	// Request is the id under which a pending one is approved or denied, and
	// Command what grants it.
	Request string `json:"request,omitempty"`
	Command string `json:"command,omitempty"`
}

// PluginPermissions is all that a plugin may do and would like to.
type PluginPermissions struct {
	Plugin string `json:"plugin"`
	// Granted is in force; what config.json narrows away is in Narrowed.
	Granted  []Permission `json:"granted" nullable:"false"`
	Narrowed []Permission `json:"narrowed,omitempty" nullable:"false" doc:"granted, and switched off by config.json"`
	Pending  []Permission `json:"pending" nullable:"false" doc:"asked for and not granted"`
	// Problems are parts of the manifest that cannot be used.
	Problems []string `json:"problems,omitempty" nullable:"false"`
}

// GrantRequest grants something to a plugin.
type GrantRequest struct {
	Kind   string `json:"kind" enum:"network,workspace,secret,env,config,hook,host,resource,registration"`
	Target string `json:"target" minLength:"1" maxLength:"4096"`
	Value  string `json:"value,omitempty" maxLength:"4096"`
	// ForSeconds makes it end by itself; 0 is never.
	ForSeconds int64 `json:"forSeconds,omitempty" minimum:"0" maximum:"31536000"`
}

// GrantResult says what a change of grants did.
type GrantResult struct {
	Permission Permission `json:"permission"`
	Restarted  bool       `json:"restarted" doc:"the plugin was restarted to put it into force"`
}

// RevokeRequest takes something back.
type RevokeRequest struct {
	Kind   string `json:"kind" enum:"network,workspace,secret,env,config,hook,host,resource,registration"`
	Target string `json:"target" minLength:"1" maxLength:"4096"`
}

// Review is what a person is shown before an install counts: what the load
// check saw the plugin register, and what it asks for.
type Review struct {
	ID     string `json:"id"`
	Digest string `json:"digest" doc:"of all that is shown; an answer names it"`
	Plugin string `json:"plugin"`
	// Name and Version are the package's.
	Name    string `json:"name"`
	Version string `json:"version"`
	// Update says that some of it was accepted before; only Permissions that
	// were not are listed.
	Update bool `json:"update,omitempty"`
	// Permissions are listed in order; those that are not Sensitive are
	// granted with the install.
	Permissions []Permission `json:"permissions" nullable:"false"`
	Diagnostics []Diagnostic `json:"diagnostics,omitempty" nullable:"false"`
	ExpiresAt   time.Time    `json:"expiresAt" doc:"an install that was not answered by then is undone"`
}

// Answers to a review.
const (
	AcceptAll   = "all"   // grant everything that was asked for
	AcceptBasic = "basic" // install, without what is sensitive
	AcceptNone  = "none"  // undo the install
)

// ReviewAnswer answers a review.
type ReviewAnswer struct {
	Digest string `json:"digest" doc:"the review's: what the person saw"`
	Accept string `json:"accept" enum:"all,basic,none"`
}

// Approval is something that waits for a person: a tool call that a hook
// wants to have approved, or a permission that is asked for.
type Approval struct {
	ID          string     `json:"id"`
	Tenant      string     `json:"tenant"`
	Kind        string     `json:"kind" enum:"call,permission"`
	Plugin      string     `json:"plugin" doc:"who asks"`
	Title       string     `json:"title"`
	Description string     `json:"description,omitempty"`
	Severity    string     `json:"severity,omitempty" enum:"info,warning,critical"`
	Decisions   []string   `json:"decisions" nullable:"false" doc:"what it can be resolved with"`
	CreatedAt   time.Time  `json:"createdAt,omitzero"`
	ExpiresAt   *time.Time `json:"expiresAt,omitempty" doc:"a call is refused then"`
	// Target is the tool, or the permission's.
	Target string `json:"target,omitempty"`
	// Params are the call's, as they would be sent.
	Params json.RawMessage `json:"params,omitempty"`
	// Context is the call's.
	Context *CallContext `json:"context,omitempty"`
	// Decision is set once it is resolved.
	Decision string `json:"decision,omitempty"`
	Actor    string `json:"actor,omitempty" doc:"who resolved it"`
}

// ApprovalList answers a list of approvals, the oldest first.
type ApprovalList struct {
	Approvals []Approval `json:"approvals" nullable:"false"`
	Next      string     `json:"next,omitempty" doc:"cursor of the next page, if there is one"`
}

// Decisions about approvals, as in OpenClaw.
const (
	// AllowOnce lets one call through. A permission it grants for this run: until
	// the plugin's instance ends. It is offered for connections and hooks alone.
	AllowOnce = "allow-once"
	// AllowAlways lets a call and those like it through. A permission it grants.
	AllowAlways = "allow-always"
	Deny        = "deny"
)

// ResolveRequest resolves an approval.
type ResolveRequest struct {
	Decision string `json:"decision" enum:"allow-once,allow-always,deny"`
}
