package hooks

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Decisions about an approval, as in OpenClaw.
const (
	AllowOnce   = "allow-once"
	AllowAlways = "allow-always"
	Deny        = "deny"
	TimedOut    = "timeout"
	Cancelled   = "cancelled"
)

// Bounds of approvals, OpenClaw's (docs/plugins/plugin-permission-requests).
const (
	DefaultApprovalTimeout = 2 * time.Minute
	MaxApprovalTimeout     = 10 * time.Minute
	maxTitle               = 80  // bytes
	maxDescription         = 512 // bytes
)

// Approval is what a handler of before_tool_call wants a person to decide. Its
// texts are the plugin's words, made fit to be shown.
type Approval struct {
	Tenant  string
	Key     plugin.Key // whose handler asks
	Handler int
	HookID  string // the HookCall's
	// Title and Description say what is asked; Severity is "info", "warning"
	// or "critical".
	Title, Description, Severity string
	// Timeout is how long a person has; TimeoutReason is what the caller is
	// told when nobody decides, empty for words of ours.
	Timeout       time.Duration
	TimeoutReason string
	// Allowed are the decisions that the plugin offers; Deny is always one.
	Allowed []string
	// Tool is the call's, and Owner the plugin that it belongs to, as the
	// emitter put it into the payload; Params is what the call gets when it is
	// allowed.
	Tool, Owner string
	Params      json.RawMessage
	Context     wire.Context
	// Decision is set once it is decided.
	Decision string
}

// readApproval reads a requireApproval. Its scope is for display only and is
// not read, its timeoutBehavior is one that OpenClaw ignores too, and its
// pluginId would be the plugin's word.
func readApproval(raw json.RawMessage) (*Approval, error) {
	o, err := object(raw)
	if err != nil {
		return nil, fmt.Errorf("cannot use its requireApproval: %w", err)
	}
	if err := check("requireApproval.title", o["title"], isText); err != nil {
		return nil, err
	}
	for _, name := range []string{"description", "severity", "timeoutReason"} {
		if v := o[name]; !isNull(v) {
			if err := check("requireApproval."+name, v, isText); err != nil {
				return nil, err
			}
		}
	}
	a := &Approval{
		Title:         clean(text(o["title"]), maxTitle),
		Description:   clean(text(o["description"]), maxDescription),
		Severity:      text(o["severity"]),
		TimeoutReason: clean(text(o["timeoutReason"]), wire.MaxReason),
	}
	if a.Severity == "" {
		a.Severity = "warning"
	}
	if !slices.Contains([]string{"info", "warning", "critical"}, a.Severity) {
		return nil, fmt.Errorf("its requireApproval.severity is %q", clean(a.Severity, 64))
	}
	if a.Timeout, err = approvalTimeout(o["timeoutMs"]); err != nil {
		return nil, err
	}
	a.Allowed, err = allowed(o["allowedDecisions"])
	return a, err
}

func approvalTimeout(raw json.RawMessage) (time.Duration, error) {
	if isNull(raw) {
		return DefaultApprovalTimeout, nil
	}
	var ms float64
	if json.Unmarshal(raw, &ms) != nil {
		return 0, fmt.Errorf("its requireApproval.timeoutMs is not a number")
	}
	if ms < 1 {
		return DefaultApprovalTimeout, nil
	}
	return time.Duration(min(ms, float64(MaxApprovalTimeout.Milliseconds()))) * time.Millisecond, nil
}

// allowed reads the decisions that a plugin offers. A person can always deny.
func allowed(raw json.RawMessage) ([]string, error) {
	all := []string{AllowOnce, AllowAlways, Deny}
	if isNull(raw) {
		return all, nil
	}
	var asked []string
	if commas(raw) >= maxFields || json.Unmarshal(raw, &asked) != nil {
		return nil, fmt.Errorf("its requireApproval.allowedDecisions is not a list of decisions")
	}
	for _, d := range asked {
		if !slices.Contains(all, d) {
			return nil, fmt.Errorf("its requireApproval.allowedDecisions holds %q", clean(d, 64))
		}
	}
	if len(asked) == 0 {
		return all, nil
	}
	return slices.DeleteFunc(all, func(d string) bool { return d != Deny && !slices.Contains(asked, d) }), nil
}
