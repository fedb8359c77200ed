package v1

import (
	"encoding/json"
	"time"
)

// LearnRequest switches a plugin's learn mode, which restarts the plugin if it
// runs: it is told of every refusal as before, and all it wished for is noted.
type LearnRequest struct {
	On bool `json:"on"`
	// ForSeconds makes it end by itself.
	ForSeconds int64 `json:"forSeconds,omitempty" minimum:"0" maximum:"86400" doc:"0 is an hour"`
}

// Learning is what a plugin's learn mode has found out. It is kept until learn
// mode is switched on again, or the daemon ends.
type Learning struct {
	On    bool       `json:"on"`
	Since *time.Time `json:"since,omitempty" doc:"absent if it never was on"`
	Until *time.Time `json:"until,omitempty" doc:"when it ends by itself, or has ended"`
	// Wishes are what the plugin tried and was not granted, each once, the oldest
	// first. One that waits for an answer has a Request.
	Wishes []Permission `json:"wishes" nullable:"false"`
	// Manifest is the smallest permission manifest that covers the wishes and what
	// the plugin used of its grants.
	Manifest json.RawMessage `json:"manifest,omitempty" doc:"the smallest permission manifest that covers what it needed"`
}

// ManifestRequest grants what a permission manifest asks for.
type ManifestRequest struct {
	Manifest json.RawMessage `json:"manifest" doc:"a permission manifest"`
	// DryRun only says what would be granted.
	DryRun bool `json:"dryRun,omitempty"`
}

// ManifestResult says what the grant of a manifest did, or would do.
type ManifestResult struct {
	Permissions []Permission `json:"permissions" nullable:"false" doc:"what is granted"`
	// Left cannot be granted as a manifest says it; Command says how.
	Left      []Permission `json:"left,omitempty" nullable:"false" doc:"what lacks a detail, as a directory does its path"`
	Restarted bool         `json:"restarted" doc:"the plugin was restarted to put it into force"`
}
