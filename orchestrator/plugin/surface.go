package plugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// KindTool is Registration.Kind of a tool.
const KindTool = "tool"

const (
	maxTools    = 1000
	maxToolText = 16 << 10 // of a label and of a description, bytes
)

var errNoObject = errors.New("no schema of an object")

// anyObject is the schema of a tool that declares none.
var anyObject = json.RawMessage(`{"type":"object"}`)

// toolSpec is Registration.Spec of a tool.
type toolSpec struct {
	Label       string          `json:"label"`
	Description string          `json:"description"`
	Parameters  json.RawMessage `json:"parameters"`
	Optional    bool            `json:"optional"`
}

// Tools returns the tools that were registered, in order. A tool without a
// schema takes any object. What does not parse is left out: [Surface.Validate]
// refuses it at the install.
func (s Surface) Tools() []Tool {
	tools := []Tool{}
	for _, r := range s.Registrations {
		if r.Kind != KindTool {
			continue
		}
		if t, err := r.tool(); err == nil {
			tools = append(tools, t)
		}
	}
	return tools
}

// Validate reports why the surface cannot be that of the plugin d: a tool name
// that model providers refuse, a name that is registered twice, parameters
// that are no JSON Schema of an object. A manifest's contracts.tools is not
// asked for: older plugins have none. Errors are of class fault.ErrPlugin.
func (s Surface) Validate(d Descriptor) error {
	seen := map[string]bool{}
	for _, r := range s.Registrations {
		if r.Kind != KindTool {
			continue
		}
		if err := CheckToolName(r.Name); err != nil {
			return fault.New(fault.ErrPlugin, "bad_tool_name", "plugin %s registers a tool that cannot be called: %w", d.ID, err).
				WithHint("the plugin's author must rename the tool")
		}
		if seen[r.Name] {
			return fault.New(fault.ErrPlugin, "duplicate_tool", "plugin %s registers the tool %q twice", d.ID, r.Name).
				WithHint("the plugin's author must remove one of the two")
		}
		seen[r.Name] = true
		if _, err := r.tool(); err != nil {
			return err
		}
	}
	if len(seen) > maxTools {
		return fault.New(fault.ErrPlugin, "too_many_tools", "plugin %s registers %d tools, at most %d are allowed", d.ID, len(seen), maxTools)
	}
	return nil
}

func (r Registration) tool() (Tool, error) {
	var spec toolSpec
	if len(r.Spec) > 0 {
		if err := json.Unmarshal(r.Spec, &spec); err != nil {
			return Tool{}, fault.New(fault.ErrPlugin, "bad_tool", "cannot read what was registered as the tool %q: %w", r.Name, err)
		}
	}
	if len(spec.Label) > maxToolText || len(spec.Description) > maxToolText {
		return Tool{}, fault.New(fault.ErrPlugin, "bad_tool", "the tool %q has a label or a description over %d bytes", r.Name, maxToolText)
	}
	parameters, err := objectSchema(spec.Parameters)
	if err != nil {
		return Tool{}, fault.New(fault.ErrPlugin, "bad_tool_schema", "the parameters of the tool %q are no JSON Schema of an object", r.Name).
			WithHint(`"parameters" must be a schema with "type": "object", or be left out`)
	}
	return Tool{
		Name: r.Name, Label: spec.Label, Description: spec.Description,
		Parameters: parameters, Optional: spec.Optional,
	}, nil
}

// objectSchema returns the schema, or the one for any object where there is
// none. A schema without a type is a valid one (anyOf and its like); one of
// another type than object never fits the parameters of a tool.
func objectSchema(raw json.RawMessage) (json.RawMessage, error) {
	if raw = bytes.TrimSpace(raw); len(raw) == 0 || string(raw) == "null" {
		return anyObject, nil
	}
	var schema map[string]json.RawMessage
	if err := json.Unmarshal(raw, &schema); err != nil {
		return nil, err
	}
	kind := schema["type"]
	if kind == nil || string(kind) == `"object"` {
		return raw, nil
	}
	var types []string
	if json.Unmarshal(kind, &types) == nil && slices.Contains(types, "object") {
		return raw, nil
	}
	return nil, errNoObject
}
