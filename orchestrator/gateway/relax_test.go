package gateway

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// What cannot be checked here is left to the plugin; the rest is checked.
func TestUncheckedSchema(t *testing.T) {
	const ahead = `(?=.*\\d).+`
	for _, tc := range []struct{ name, schema, fits, misfit, says string }{
		{"look-ahead", `{"properties":{"a":{"type":"string","pattern":"` + ahead + `"}}}`, `{"a":"x"}`, `{"a":1}`, "the pattern (?=.*\\d).+"},
		{"back reference", `{"properties":{"a":{"pattern":"(a)\\1"},"b":{"pattern":"^b$"}}}`, `{"a":"x"}`, `{"b":"c"}`, `(a)\1`},
		{"escape of JavaScript", `{"properties":{"a":{"pattern":"^\\u0041$","maxLength":3}}}`, `{"a":"x"}`, `{"a":"xxxx"}`, `^\u0041$`},
		{"pattern of names", `{"patternProperties":{"` + ahead + `":{"type":"string"}},"additionalProperties":false,"required":["r"]}`,
			`{"r":1,"b":1}`, `{"a":1}`, "properties by the pattern"},
		{"not", `{"properties":{"a":{"not":{"pattern":"` + ahead + `"},"type":"string"}}}`, `{"a":"x"}`, `{"a":1}`, "pattern"},
		{"one of", `{"properties":{"a":{"oneOf":[{"pattern":"` + ahead + `"},{"type":"string"}],"type":"string"}}}`, `{"a":"x"}`, `{"a":1}`, "pattern"},
		{"condition", `{"properties":{"a":{"if":{"pattern":"` + ahead + `"},"then":{"const":1},"else":{"const":2},"type":"string"}}}`, `{"a":"x"}`, `{"a":1}`, "pattern"},
		{"definition", `{"$defs":{"s":{"pattern":"` + ahead + `","type":"string"}},"properties":{"a":{"$ref":"#/$defs/s"}}}`, `{"a":"x"}`, `{"a":1}`, "pattern"},
		{"properties with keywords' names", `{"properties":{"not":{"pattern":"` + ahead + `"},"enum":{"type":"string"}},"additionalProperties":false}`,
			`{"not":"x","enum":"y"}`, `{"enum":1}`, "pattern"},
		{"required on a property", `{"properties":{"a":{"type":"string","required":true}}}`, `{}`, `{"a":1}`, `"required"`},
		{"draft 4 without saying so", `{"properties":{"a":{"maximum":3,"exclusiveMaximum":true}}}`, `{"a":2}`, `{"a":3}`, ""},
		{"no type", `{"type":"strnig"}`, `{"a":1}`, "", "anything"},
		{"remote reference", `{"$ref":"https://example.com/schema.json"}`, `{"a":1}`, "", "not followed"},
		{"file reference", `{"$ref":"file:///etc/passwd"}`, `{"a":1}`, "", "not followed"},
		{"relative reference", `{"$ref":"../../etc/passwd"}`, `{"a":1}`, "", "not followed"},
		{"metaschema elsewhere", `{"$schema":"https://example.com/meta"}`, `{"a":1}`, "", "not followed"},
		{"dangling reference", `{"$ref":"#/$defs/none"}`, `{"a":1}`, "", "anything"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := callWith(t, tc.schema, tc.fits); err != nil {
				t.Errorf("%s is refused: %v", tc.fits, err)
			}
			if tc.misfit != "" {
				wantFault(t, callWith(t, tc.schema, tc.misfit), errdefs.ErrInvalidArgument, CodeInvalidParams)
			}
			list := Unchecked(surfaceOf(tc.schema))
			if tc.says == "" && len(list) == 0 {
				return
			}
			if len(list) != 1 || list[0].Level != "warn" || !strings.Contains(list[0].Message, tc.says) || len(list[0].Message) > 1000 {
				t.Errorf("diagnostics %+v, want one that says %q", list, tc.says)
			}
		})
	}
}

func TestUncheckedNamesRefusedSchemas(t *testing.T) {
	list := Unchecked(surfaceOf(`{"minimum":1e999999999}`))
	if len(list) != 1 || list[0].Level != "error" || !strings.Contains(list[0].Message, "out of range") {
		t.Errorf("diagnostics %+v", list)
	}
	if list := Unchecked(surfaceOf(querySchema)); len(list) != 0 {
		t.Errorf("diagnostics of a good schema: %+v", list)
	}
}

func surfaceOf(schema string) plugin.Surface {
	return plugin.Surface{Registrations: []plugin.Registration{
		{Kind: "hook", Name: "h"},
		{Kind: plugin.KindTool, Name: "search", Spec: json.RawMessage(`{"parameters":` + schema + `}`)},
	}}
}
