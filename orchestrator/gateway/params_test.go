package gateway

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// call calls a tool that has this schema and returns 1.
func callWith(t *testing.T, schema, params string) error {
	t.Helper()
	g := New(Config{Plugins: &memPlugins{peer: newPeer(ok(`1`)), tools: map[string]string{"search": schema}}})
	_, err := g.Call(t.Context(), search(params))
	return err
}

func TestParams(t *testing.T) {
	const tuple = `{"type":"object","properties":{"p":{"type":"array","items":[{"type":"string"},{"type":"number"}],"additionalItems":false}}}`
	for _, tc := range []struct {
		name, schema, params string
		want                 []Field
	}{
		{"fit", querySchema, `{"query":"x","limit":3}`, nil},
		{"none", `{"type":"object"}`, ``, nil},
		{"null", `{"type":"object"}`, `null`, nil},
		{"no schema", `null`, `{"anything":1}`, nil},
		{"true schema", `true`, `{"anything":1}`, nil},
		{"missing", querySchema, `{}`, []Field{{"/query", "is required"}}},
		{"unknown", querySchema, `{"query":"x","a/b~":1}`, []Field{{"/a~1b~0", "is not known"}}},
		{"several", querySchema, `{"limit":0,"x":1}`,
			[]Field{{"/limit", "minimum: got 0, want 1"}, {"/query", "is required"}, {"/x", "is not known"}}},
		{"type", querySchema, `{"query":7}`, []Field{{"/query", "got number, want string"}}},
		{"nested", `{"properties":{"a":{"type":"array","items":{"required":["b"]}}}}`, `{"a":[{"b":1},{}]}`,
			[]Field{{"/a/1/b", "is required"}}},
		{"enum", `{"properties":{"m":{"enum":["a",2,null]}}}`, `{"m":"b"}`, []Field{{"/m", `must be one of "a", 2, null`}}},
		{"const", `{"properties":{"m":{"const":"a"}}}`, `{"m":"b"}`, []Field{{"/m", `must be "a"`}}},
		{"pattern", `{"properties":{"m":{"pattern":"^a+$"}}}`, `{"m":"b"}`, []Field{{"/m", `'b' does not match pattern '^a+$'`}}},
		{"ref", `{"$defs":{"s":{"type":"string"}},"properties":{"m":{"$ref":"#/$defs/s"}}}`, `{"m":1}`, []Field{{"/m", "got number, want string"}}},
		{"draft 7", `{"$schema":"http://json-schema.org/draft-07/schema#","properties":{"m":{"type":"string"}}}`, `{"m":1}`,
			[]Field{{"/m", "got number, want string"}}},
		{"draft 4", `{"$schema":"http://json-schema.org/draft-04/schema#","properties":{"m":{"maximum":3,"exclusiveMaximum":true}}}`, `{"m":3}`,
			[]Field{{"/m", "exclusiveMaximum: got 3, want 3"}}},
		{"tuple of old fits", tuple, `{"p":["a",1]}`, nil},
		{"tuple of old", tuple, `{"p":[1]}`, []Field{{"/p/0", "got number, want string"}}},
		{"array", `{}`, `[1]`, []Field{{"", "they are no JSON object"}}},
		{"string", `{}`, `"x"`, []Field{{"", "they are no JSON object"}}},
		{"two values", `{}`, `{} {}`, []Field{{"", "no JSON: there is more than one value"}}},
		{"huge number", `{}`, `{"a":[1e999999999]}`, []Field{{"/a/0", "the number 1e999999999 is out of range"}}},
		{"tiny number", `{}`, `{"a":1e-999999999}`, []Field{{"/a", "the number 1e-999999999 is out of range"}}},
		{"large double", `{"properties":{"a":{"type":"integer"}}}`, `{"a":1e308}`, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := callWith(t, tc.schema, tc.params)
			if tc.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			f := wantFault(t, err, errdefs.ErrInvalidArgument, CodeInvalidParams)
			if diff := cmp.Diff(tc.want, f.Details); diff != "" {
				t.Error(diff)
			}
			if !strings.Contains(f.Message, tc.want[0].Why) {
				t.Errorf("message %q does not say %q", f.Message, tc.want[0].Why)
			}
		})
	}
}

func TestParamsBounds(t *testing.T) {
	t.Run("broken", func(t *testing.T) {
		wantFault(t, callWith(t, `{}`, `{"a":`), errdefs.ErrInvalidArgument, CodeInvalidParams)
	})
	t.Run("size", func(t *testing.T) {
		err := callWith(t, `{}`, `{"a":"`+strings.Repeat("x", DefaultMaxParams)+`"}`)
		wantFault(t, err, errdefs.ErrInvalidArgument, CodeInvalidParams)
	})
	t.Run("depth", func(t *testing.T) {
		err := callWith(t, `{}`, `{"a":`+strings.Repeat("[", maxDepth+1)+strings.Repeat("]", maxDepth+1)+`}`)
		wantFault(t, err, errdefs.ErrInvalidArgument, CodeInvalidParams)
	})
	t.Run("fields", func(t *testing.T) {
		err := callWith(t, `{"additionalProperties":{"type":"string"}}`, manyMembers(1000))
		f := wantFault(t, err, errdefs.ErrInvalidArgument, CodeInvalidParams)
		if fields := f.Details.([]Field); len(fields) != maxFields {
			t.Errorf("%d fields, want %d", len(fields), maxFields)
		}
		if want := fmt.Sprintf("and %d more", maxFields-maxFieldsShown); !strings.HasSuffix(f.Message, want) {
			t.Errorf("message %q does not end with %q", f.Message, want)
		}
	})
}

func manyMembers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"m%d":1`, i)
	}
	return "{" + b.String()[1:] + "}"
}

// exponential is a schema that asks for 2^n visits of one value.
func exponential(n int, keyword, last string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"d%d":{%q:[{"$ref":"#/$defs/d%d"},{"$ref":"#/$defs/d%d"}]},`, i, keyword, i+1, i+1)
	}
	return fmt.Sprintf(`{"$defs":{%s"d%d":%s},"$ref":"#/$defs/d0"}`, b.String(), n, last)
}

// A hostile schema must not cost the host more than a moment.
func TestSchemaCannotBurnTheHost(t *testing.T) {
	for _, tc := range []struct{ name, schema, params string }{
		{"allOf that fits", exponential(40, "allOf", `{}`), `{}`},
		{"allOf that does not fit", exponential(40, "allOf", `{"required":["x"]}`), `{}`},
		{"anyOf that does not fit", exponential(40, "anyOf", `{"type":"string"}`), `{}`},
		{"oneOf that fits", exponential(40, "oneOf", `true`), `{}`},
		{"work per value", `{"additionalProperties":{"enum":[` + strings.Repeat("1,", 10_000) + `2]}}`, manyMembers(10_000)},
		{"patterns over text", `{"additionalProperties":{"pattern":"` + strings.Repeat("(a?){50}", 20) + `"}}`,
			`{"a":"` + strings.Repeat("a", 1<<20) + `"}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			started := time.Now()
			f := wantFault(t, callWith(t, tc.schema, tc.params), errdefs.ErrInvalidArgument, CodeInvalidParams)
			if !strings.Contains(f.Message, errTooMuchWork.Error()) {
				t.Errorf("message %q", f.Message)
			}
			t.Logf("refused after %s", time.Since(started))
		})
	}
}

func TestInvalidSchema(t *testing.T) {
	for _, tc := range []struct{ name, schema, says string }{
		{"no schema", `7`, "neither"},
		{"patterns too large", `{"patternProperties":{` + manyPatterns(60) + `}}`, "too large"},
		{"too large", `{"description":"` + strings.Repeat("x", maxSchema) + `"}`, "at most"},
		{"too deep", strings.Repeat(`{"not":`, maxDepth+1) + `{}` + strings.Repeat(`}`, maxDepth+1), "levels"},
		{"too many", `{"allOf":[` + strings.Repeat(`{},`, maxSubschemas) + `{}]}`, "objects"},
		{"huge number", `{"minimum":1e999999999}`, "out of range"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := wantFault(t, callWith(t, tc.schema, `{}`), fault.ErrPlugin, CodeInvalidSchema)
			if !strings.Contains(f.Message, tc.says) || len(f.Message) > 1000 {
				t.Errorf("message %q does not say %q", f.Message, tc.says)
			}
		})
	}
}

func manyPatterns(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf(`"(abc%d){900}":{}`, i))
	}
	return strings.Join(list, ",")
}

func TestToolCache(t *testing.T) {
	c := newToolCache()
	registration := func(name, schema string) plugin.Registration {
		return plugin.Registration{Kind: plugin.KindTool, Name: name, Spec: json.RawMessage(`{"parameters":` + schema + `}`)}
	}
	first, err := c.get(testKey, registration("a", `{}`))
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := c.get(testKey, registration("a", `{}`)); again != first {
		t.Error("the same schema was compiled twice")
	}
	if other, _ := c.get(plugin.Key{Tenant: "other", ID: testKey.ID}, registration("a", `{}`)); other == first {
		t.Error("tenants share a compiled schema")
	}
	if changed, _ := c.get(testKey, registration("a", `{"type":"object"}`)); changed == first {
		t.Error("a changed schema was not compiled")
	}
	if _, err := c.get(testKey, registration("bad", `7`)); err == nil {
		t.Error("no error")
	}
	large := `{"description":"` + strings.Repeat("x", maxSchema-100) + `"}`
	for i := range maxCachedBytes/maxSchema + 8 {
		if _, err := c.get(testKey, registration(fmt.Sprint("t", i), large)); err != nil {
			t.Fatal(err)
		}
	}
	sum := 0
	for _, tool := range c.tools {
		sum += len(tool.spec)
	}
	if c.bytes != sum || sum > maxCachedBytes {
		t.Errorf("the cache holds %d bytes and counts %d, at most %d are allowed", sum, c.bytes, maxCachedBytes)
	}
	for i := range maxCachedTools + 8 {
		if _, err := c.get(testKey, registration(fmt.Sprint("s", i), `true`)); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.tools) > maxCachedTools {
		t.Errorf("%d entries, at most %d are allowed", len(c.tools), maxCachedTools)
	}
}

func FuzzParams(f *testing.F) {
	for _, seed := range [][2]string{
		{querySchema, `{"query":"x"}`}, {`true`, `{}`}, {exponential(5, "anyOf", `{"type":"null"}`), `{"a":[1,{"b":null}]}`},
		{`{"items":[{}],"uniqueItems":true,"$schema":"http://json-schema.org/draft-07/schema#"}`, `{"a":1e3}`},
		{`{"patternProperties":{"^a":{"$ref":"#"}}}`, `{"a":{"a":{}}}`},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, schema, params string) {
		g := New(Config{Plugins: &memPlugins{}})
		tool, err := compileSchema(json.RawMessage(schema))
		if err != nil {
			return
		}
		got, err := g.checkParams(tool, search(params))
		if err != nil {
			if fault.Of(err).Code != CodeInvalidParams {
				t.Errorf("%v", err)
			}
			return
		}
		var object map[string]json.RawMessage
		if err := json.Unmarshal(got, &object); err != nil {
			t.Errorf("passed %q, which is no JSON object: %v", got, err)
		}
	})
}
