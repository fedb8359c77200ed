package plugin

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestHookEventOf(t *testing.T) {
	tests := []struct {
		name       string
		kind       HookKind
		timeout    time.Duration
		failClosed bool
		sensitive  bool
	}{
		{"before_tool_call", HookGate, 15 * time.Second, true, true},
		{"before_agent_run", HookGate, 15 * time.Second, true, true},
		{"before_install", HookGate, 15 * time.Second, true, true},
		{"message_sending", HookGate, 15 * time.Second, false, true},
		{"before_message_write", HookGate, 15 * time.Second, false, true},
		{"message_received", HookObserve, 15 * time.Second, false, false},
		{"agent_end", HookObserve, 30 * time.Second, false, true},
		{"gateway_stop", HookObserve, 5 * time.Second, false, false},
		{"before_dispatch", HookClaim, 2 * time.Minute, false, true},
		{"reply_dispatch", HookClaim, 10 * time.Minute, false, true},
		{"skill_proposal_evaluate", HookEvaluate, 2 * time.Minute, false, true},
		{"before_agent_start", HookModify, 15 * time.Second, false, true},
		{"agent:message:before", HookGate, 15 * time.Second, true, true},
		{"agent:message:after", HookObserve, 15 * time.Second, false, true},
		{"command:new", HookObserve, 15 * time.Second, false, false},
		{"session:compact:before", HookObserve, 15 * time.Second, false, false},
		{"agent:bootstrap", HookModify, 15 * time.Second, false, true},
	}
	for _, tt := range tests {
		e, ok := HookEventOf(tt.name)
		if !ok || e.Name != tt.name || e.Kind != tt.kind || e.Timeout != tt.timeout || e.FailClosed != tt.failClosed || e.Sensitive() != tt.sensitive {
			t.Errorf("HookEventOf(%q) = %+v, %v, want %+v", tt.name, e, ok, tt)
		}
	}
	for _, name := range []string{"", "before_toolcall", "subagent_spawning", "deactivate"} {
		if e, ok := HookEventOf(name); ok {
			t.Errorf("HookEventOf(%q) = %+v, want nothing", name, e)
		}
	}
}

// TestHookEventTable holds what every row has to keep.
func TestHookEventTable(t *testing.T) {
	for name := range eventTable {
		e, ok := HookEventOf(name)
		if !ok || len(e.Rights) == 0 || e.Rights[0] != RightObserve {
			t.Errorf("HookEventOf(%q) has the rights %v, want %s first", name, e.Rights, RightObserve)
		}
		if e.Timeout <= 0 || e.Timeout > MaxHookTimeout {
			t.Errorf("HookEventOf(%q) has a timeout of %s", name, e.Timeout)
		}
		if e.FailClosed && !slices.Contains(e.Rights, RightBlock) {
			t.Errorf("HookEventOf(%q) fails closed, but nobody may block it", name)
		}
		if e.Sync && strings.Contains(name, ":") {
			t.Errorf("HookEventOf(%q) is sync", name)
		}
	}
}
