package hooks

import (
	"encoding/json"
	"fmt"

	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// judge reads the outcome of one evaluator: nil if it has none, and what was
// dropped of it. Only a handler that may block may decide anything but "pass".
func judge(h Handler, result wire.HookResult) (outcome json.RawMessage, dropped string, err error) {
	var o Object
	switch {
	case result.Block != nil:
		o = Object{"decision": quote("block"), "decisionReason": quote(clean(result.Block.Reason, wire.MaxReason))}
	case isNull(result.Result):
		return nil, "", nil
	default:
		if o, err = object(result.Result); err != nil {
			return nil, "", fmt.Errorf("cannot use its result: %w", err)
		}
	}
	var w wish
	if err := w.readFields(ruleOf(h.Event), o); err != nil {
		return nil, "", err
	}
	switch decision := text(w.result["decision"]); decision {
	case "", "pass":
	case "revise", "block":
		if !h.can(plugin.RightBlock) {
			return nil, "its decision to " + decision + ": it was not granted to block", nil
		}
	default:
		return nil, "", fmt.Errorf("its decision is %q, none of pass, revise and block", clean(decision, 64))
	}
	if w.result.size() > MaxConcat {
		return nil, "", fmt.Errorf("its outcome has more than %d bytes", MaxConcat)
	}
	return w.result.Encode(), "", nil
}

// verdict reads whether an outcome blocks, and why.
func verdict(outcome json.RawMessage) (reason string, blocks bool) {
	if outcome == nil {
		return "", false
	}
	o, err := object(outcome)
	if err != nil || text(o["decision"]) != "block" {
		return "", false
	}
	return clean(text(o["decisionReason"]), wire.MaxReason), true
}
