package gateway

import (
	"fmt"
	"regexp/syntax"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// maxUnchecked is how many things of one schema are named.
const maxUnchecked = 8

// Unchecked says what of a plugin's parameter schemas cannot be checked here,
// and so is left to the plugin, and which schemas are refused.
func Unchecked(s plugin.Surface) []plugin.Diagnostic {
	var list []plugin.Diagnostic
	for _, r := range s.Registrations {
		if r.Kind != plugin.KindTool {
			continue
		}
		tool, err := compileTool(plugin.Key{}, r)
		if err != nil {
			list = append(list, plugin.Diagnostic{Level: "error", Message: fmt.Sprintf("tool %s cannot be called: %s", r.Name, fault.Of(err).Message)})
			continue
		}
		for _, what := range tool.unchecked {
			list = append(list, plugin.Diagnostic{Level: "warn", Message: fmt.Sprintf("parameters of tool %s are not checked here for %s", r.Name, what)})
		}
	}
	return list
}

// relaxation removes from a schema what cannot be checked here but is valid
// elsewhere. The check of parameters serves their caller and is no boundary:
// the plugin gets them in any case and knows its own syntax. What depends on
// the outcome of a removed check in another way than "and" goes as well, so
// that nothing is refused which fits the schema as it was.
type relaxation struct{ unchecked []string }

func (r *relaxation) note(format string, args ...any) {
	if len(r.unchecked) < maxUnchecked {
		r.unchecked = append(r.unchecked, oneLine(fmt.Sprintf(format, args...)))
	}
}

// schema relaxes v, which is a schema or lists of them, and says whether
// anything was removed.
func (r *relaxation) schema(v any) (removed bool) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			removed = r.schema(item) || removed
		}
	case map[string]any:
		removed = r.patterns(v)
		if _, old := v["required"].(bool); old { // draft 3, on the property itself
			r.note(`"required": true or false on a property`)
			delete(v, "required")
		}
		for keyword, member := range v {
			if r.member(keyword, member) {
				removed = true
				remove(v, dependent[keyword])
			}
		}
	}
	return removed
}

// dependent lists what goes when something was removed below a keyword.
var dependent = map[string][]string{
	"not": {"not"}, "oneOf": {"oneOf"}, "if": {"if", "then", "else"},
	"contains": {"contains", "minContains", "maxContains"},
}

func remove(schema map[string]any, keywords []string) {
	for _, k := range keywords {
		delete(schema, k)
	}
}

// member relaxes the schemas below a keyword.
func (r *relaxation) member(keyword string, v any) (removed bool) {
	switch keyword {
	case "const", "enum", "default", "example", "examples":
		return false
	case "properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies":
		named, _ := v.(map[string]any)
		for _, s := range named {
			removed = r.schema(s) || removed
		}
		return removed
	}
	return r.schema(v)
}

// patterns removes the patterns that Go's syntax (RE2) does not have, such as
// look-ahead. Which properties such a pattern names cannot be told then.
func (r *relaxation) patterns(schema map[string]any) (removed bool) {
	if p, ok := schema["pattern"].(string); ok && !parses(p) {
		r.note("the pattern %s", cut(p, maxWhy))
		delete(schema, "pattern")
		removed = true
	}
	named, _ := schema["patternProperties"].(map[string]any)
	for p := range named {
		if !parses(p) {
			r.note("properties by the pattern %s", cut(p, maxWhy))
			remove(schema, []string{"patternProperties", "additionalProperties", "unevaluatedProperties"})
			return true
		}
	}
	return removed
}

func parses(pattern string) bool {
	_, err := syntax.Parse(pattern, syntax.Perl)
	return err == nil
}
