package plugin

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// update rewrites the generated schema: go test ./orchestrator/plugin -run Schema -update
var update = flag.Bool("update", false, "rewrite generated files")

const schemaFile = "../../docs/permissions.schema.json"

type schema map[string]any

func listOf(items schema) schema {
	return schema{"type": "array", "items": items, "maxItems": MaxPermissionList}
}

func objectOf(properties map[string]schema, required ...string) schema {
	s := schema{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

func about(s schema, text string) schema {
	s["description"] = text
	return s
}

func sizeSchema(least, most Size, text string) schema {
	return schema{"description": text + " From " + least.String() + " to " + most.String() + ".", "oneOf": []schema{
		{"type": "string", "pattern": `^[1-9][0-9]*(KiB|MiB|GiB|TiB)?$`}, {"type": "integer", "minimum": int64(least), "maximum": int64(most)}}}
}

func hooksSchema() schema {
	events := map[string]schema{}
	for _, name := range names(eventTable) {
		e, _ := HookEventOf(name)
		events[name] = schema{"$ref": "#/$defs/" + string(e.Kind)}
	}
	return about(schema{
		"type": "object", "maxProperties": MaxPermissionList, "properties": events, "additionalProperties": false,
		"patternProperties": map[string]schema{`^[A-Za-z0-9_.-]+(:[A-Za-z0-9_.-]+)+$`: {"$ref": "#/$defs/" + string(HookGate)}},
	}, "What its handlers may do with each event: rights with commas between them, or a list of rights. Each implies observe.")
}

func rightsSchema(kind HookKind) schema {
	words := make([]string, len(rightsOf[kind]))
	for i, right := range rightsOf[kind] {
		words[i] = string(right)
	}
	one := "(" + strings.Join(words, "|") + ")"
	return schema{"oneOf": []schema{
		{"type": "string", "pattern": "^ *" + one + " *(, *" + one + " *)*$"},
		{"type": "array", "minItems": 1, "maxItems": MaxPermissionList, "items": schema{"enum": words}},
	}}
}

func permissionsSchema() schema {
	name := schema{"type": "string", "pattern": variablePattern.String(), "maxLength": MaxVariableLen}
	s := objectOf(map[string]schema{
		"$schema": {"type": "string"},
		"network": about(listOf(objectOf(map[string]schema{
			"host":      about(schema{"type": "string", "minLength": 1, "pattern": `^(\*\.)?[^*:/@\s_]+[^*:/@\s_.]$`}, "A host name, or \"*.\" and a name for exactly one label before it. No addresses."),
			"ports":     about(schema{"type": "array", "items": schema{"type": "integer", "minimum": 1, "maximum": 65535}, "minItems": 1, "maxItems": MaxPermissionList, "default": []int{DefaultPort}}, "The ports."),
			"rules":     about(listOf(schema{"type": "string", "pattern": rulePattern.String(), "maxLength": MaxRuleLen}), "Methods and paths, for connections that are inspected."),
			"plaintext": about(schema{"type": "boolean", "default": false}, "Connections without TLS."),
		}, "host")), "Where it connects to."),
		"workspace": about(schema{"enum": []string{WorkspaceNone, WorkspaceRO, WorkspaceRW}, "default": WorkspaceNone}, "Whether it reads (ro) or also writes (rw) directories that a person names."),
		"state":     objectOf(map[string]schema{"max": sizeSchema(MinState, MaxState, "The size of its own directory.")}),
		"secrets":   about(listOf(name), "Names of secrets."),
		"env":       about(listOf(name), "Names of environment variables of the host."),
		"config":    about(listOf(schema{"type": "string", "pattern": `^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){0,15}$`, "maxLength": MaxConfigPathLen}), "Dot paths into config.json, besides its own entry."),
		"hooks":     hooksSchema(),
		"host":      about(listOf(schema{"enum": []string{HostEmit}}), "Methods of the agent host that it calls."),
		"resources": objectOf(map[string]schema{
			"memory": sizeSchema(MinMemory, MaxMemory, "Memory."),
			"cpus":   about(schema{"type": "number", "minimum": MinCPUs, "maximum": MaxCPUs}, "Processors."),
			"pids":   about(schema{"type": "integer", "minimum": MinPIDs, "maximum": MaxPIDs}, "Processes and threads."),
		}),
	})
	s["$schema"], s["$id"] = "https://json-schema.org/draft/2020-12/schema", "https://raw.githubusercontent.com/ocmt/ocmt/main/docs/permissions.schema.json"
	s["title"], s["description"] = "OCMT permission manifest", "What a plugin asks for: \"ocmt.permissions\" in package.json or openclaw.plugin.json, or the file ocmt.permissions.json."
	defs := map[string]schema{}
	for kind := range rightsOf {
		defs[string(kind)] = rightsSchema(kind)
	}
	s["$defs"] = defs
	return s
}

func TestSchemaIsGenerated(t *testing.T) {
	var want bytes.Buffer
	enc := json.NewEncoder(&want)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(permissionsSchema()); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(schemaFile, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%s is not what the types say: run go test ./orchestrator/plugin -run Schema -update", schemaFile)
	}
}

// beyondSchema are the bad manifests that no JSON Schema can tell from good
// ones, or that only this parser's pickier rules refuse.
var beyondSchema = []string{
	"twice", "twice below", "rule with dots", "same port, other rules", "state absurd", "memory overflow",
}

func TestSchemaAgreesWithParser(t *testing.T) {
	compiler := jsonschema.NewCompiler()
	file, err := os.Open(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	doc, err := jsonschema.UnmarshalJSON(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := compiler.AddResource("permissions.json", doc); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("permissions.json")
	if err != nil {
		t.Fatal(err)
	}
	validate := func(text string) error {
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			return err
		}
		return compiled.Validate(value)
	}
	good, err := ParsePermissions([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	normal, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"{}", document, string(normal)} {
		if err := validate(text); err != nil {
			t.Errorf("the schema refuses %s: %v", text, err)
		}
	}
	for _, tt := range badManifests {
		if err := validate(tt.in); err == nil != slices.Contains(beyondSchema, tt.name) {
			t.Errorf("%s: the schema says %v", tt.name, err)
		}
	}
}
