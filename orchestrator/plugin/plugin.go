// Package plugin says what a plugin is: its key, its package and manifest,
// what it registers, and what was installed. It parses and validates; it does
// no I/O and imports nothing of ours but fault, the vocabulary of errors.
package plugin

import (
	"encoding/json"
	"time"
)

// Source is where a plugin came from.
type Source string

// The sources, by the names that config.json uses.
const (
	SourceNPM     Source = "npm"
	SourcePath    Source = "path"
	SourceArchive Source = "archive"
)

// Descriptor is what a package says of itself, validated.
type Descriptor struct {
	ID          string `json:"id"`
	Name        string `json:"name"` // package name
	Version     string `json:"version"`
	Description string `json:"description,omitempty"`
	// Root is the package's directory relative to the payload's root: "." for
	// a local directory, "node_modules/<name>" for an npm package.
	Root string `json:"root"`
	// Entries are the entry modules relative to Root, in order, never empty.
	Entries []string `json:"entries"`
	// Manifest is openclaw.plugin.json as strict JSON, or nil.
	Manifest json.RawMessage `json:"manifest,omitempty"`
	// Permissions is the permission manifest, if HasPermissions.
	Permissions    Permissions `json:"permissions,omitzero"`
	HasPermissions bool        `json:"hasPermissions,omitempty"`
	// Wishes are read from Manifest, sorted.
	Wishes []Wish `json:"wishes,omitempty"`
}

// Payload is a sealed package with its dependencies.
type Payload struct {
	// Digest is "sha256:<hex>" of the image file (form "erofs") or of the tree
	// (form "tree").
	Digest string `json:"digest"`
	Form   string `json:"form"` // "erofs" or "tree"
	Size   int64  `json:"size"` // bytes of the image, or of the tree's files
	Files  int    `json:"files"`
}

// Forms of a sealed payload.
const (
	FormEROFS = "erofs"
	FormTree  = "tree"
)

// Registration is one thing that a plugin registered.
type Registration struct {
	Kind  string          `json:"kind"` // "tool", "hook", "service", ...
	Name  string          `json:"name"`
	Entry int             `json:"entry"`
	Form  string          `json:"form"` // "export" or "register"
	Spec  json.RawMessage `json:"spec,omitempty"`
}

// Diagnostic is something the author or the operator should know.
type Diagnostic struct {
	Level   string `json:"level"`
	Message string `json:"message"`
}

// Surface is all that a plugin registered when it was loaded.
type Surface struct {
	Registrations []Registration `json:"registrations"`
	Diagnostics   []Diagnostic   `json:"diagnostics,omitempty"`
}

// Tool is a tool as callers see it.
type Tool struct {
	Name        string          `json:"name"`
	Label       string          `json:"label,omitempty"`
	Description string          `json:"description"`
	Parameters  json.RawMessage `json:"parameters"` // JSON Schema
	Optional    bool            `json:"optional,omitempty"`
}

// Installed is one installed plugin: the facts that were recorded when it was
// installed, and nothing that changes while it runs.
type Installed struct {
	Key        Key        `json:"key"`
	Descriptor Descriptor `json:"descriptor"`
	Source     Source     `json:"source"`
	Spec       string     `json:"spec"` // as it was asked for
	// Linked says that the operator's command sends the directory again
	// whenever it restarts the plugin.
	Linked      bool      `json:"linked,omitempty"`
	Integrity   string    `json:"integrity,omitempty"`
	Payload     Payload   `json:"payload"`
	Surface     Surface   `json:"surface"`
	InstalledAt time.Time `json:"installedAt"`
	// FirstInstalledAt is when a version of it was first installed: updates
	// keep its place among the other plugins.
	FirstInstalledAt time.Time `json:"firstInstalledAt,omitzero"`
}

// FirstInstalled is FirstInstalledAt, or InstalledAt of what was never
// updated.
func (i Installed) FirstInstalled() time.Time {
	if i.FirstInstalledAt.IsZero() {
		return i.InstalledAt
	}
	return i.FirstInstalledAt
}
