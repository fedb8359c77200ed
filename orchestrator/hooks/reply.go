package hooks

import (
	"encoding/json"
	"fmt"
)

// trustMark is the reply's field by which OpenClaw lets a channel read local
// files: no plugin may set it.
const trustMark = "trustedLocalMedia"

// untrusted is a reply that a plugin made, with the mark of trust only if the
// reply before had it and the media are the same.
func untrusted(before, made json.RawMessage) (json.RawMessage, error) {
	reply, err := object(made)
	if err != nil {
		return nil, fmt.Errorf("cannot use its payload: %w", err)
	}
	old, err := object(before)
	if err == nil && string(old[trustMark]) == "true" && same(old["mediaUrl"], reply["mediaUrl"]) && same(old["mediaUrls"], reply["mediaUrls"]) {
		return reply.with(Object{trustMark: json.RawMessage("true")}).Encode(), nil
	}
	if reply[trustMark] == nil {
		return made, nil
	}
	delete(reply, trustMark) // just read, nobody else has it
	return reply.Encode(), nil
}
