package cli

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

func registrations(kind string, names ...string) []v1.Permission {
	var list []v1.Permission
	for _, name := range names {
		list = append(list, v1.Permission{Kind: "registration", Target: kind + ":" + name, Sentence: "sentence of " + name})
	}
	return list
}

func hooksOn(rights string, events ...string) []v1.Permission {
	var list []v1.Permission
	for _, event := range events {
		list = append(list, v1.Permission{Kind: "hook", Target: event, Value: rights, Sentence: "sentence of " + event})
	}
	return list
}

func TestGroups(t *testing.T) {
	var tools []string
	for i := range maxNamed + 3 {
		tools = append(tools, fmt.Sprintf("t%d", i))
	}
	sensitive := slices.Concat(
		hooksOn("observe,modify,block", "before_tool_call", "message_sending"),
		hooksOn("observe,modify", "before_prompt_build", "agent_turn_prepare", "tool_result_persist"),
		hooksOn("observe,claim", "inbound_claim", "before_dispatch"),
		hooksOn("observe", "llm_input", "llm_output"))
	tests := map[string]struct {
		list        []v1.Permission
		texts, name []string
	}{
		"one of a kind": {registrations("tool", "echo"), []string{"sentence of echo"}, []string{"registration tool:echo"}},
		"several of a kind": {
			slices.Concat(registrations("tool", "a", "b"), registrations("httpRoute", "/x", "/y z"), registrations("gatewayMethod", "c.d", "e")),
			[]string{
				"Its tools are offered to agents: a, b.", "It answers HTTP requests to: /x, “/y z”.",
				"Its gateway methods can be called by clients of the agent host: c.d, e.",
			},
			[]string{"registration tool:NAME", "registration httpRoute:NAME", "registration gatewayMethod:NAME"},
		},
		"very many of a kind": {registrations("tool", tools...),
			[]string{"Its tools are offered to agents: " + strings.Join(tools[:maxNamed], ", ") + ", and 3 more."}, []string{"registration tool:NAME"}},
		"other kinds": {slices.Concat(registrations("agentHarness", "a"), registrations("reload", "b"), registrations("tool", "c")),
			[]string{"sentence of c", "It also registers: agentHarness a, reload b."}, []string{"registration tool:c", "registration KIND:NAME"}},
		"many other kinds": {slices.Concat(registrations("agentHarness", "a"), registrations("reload", "b", "c", "d"), registrations("themes", "e", "f")),
			[]string{"It also registers 6 things of other kinds: agentHarness, reload (3), themes (2)."}, []string{"registration KIND:NAME"}},
		"few hooks": {hooksOn("observe", "session_start", "session_end"),
			[]string{"sentence of session_start", "sentence of session_end"}, []string{"hook session_start observe", "hook session_end observe"}},
		"many hooks": {
			sensitive,
			[]string{
				"It may read, change and block 2 events: before_tool_call, message_sending.",
				"It may read and change 2 events: before_prompt_build, agent_turn_prepare (they carry what people and agents say; it can put words into prompts).",
				"sentence of tool_result_persist",
				"It may read and answer in the agent's place 2 events: inbound_claim, before_dispatch.",
				"It may read 2 events: llm_input, llm_output (they carry what people and agents say).",
			},
			[]string{
				"hook EVENT observe,modify,block", "hook EVENT observe,modify", "hook tool_result_persist observe,modify",
				"hook EVENT observe,claim", "hook EVENT observe",
			},
		},
		"what is not alike": {
			[]v1.Permission{{Kind: "network", Target: "a:1", Sentence: "a"}, {Kind: "network", Target: "b:1", Sentence: "b"}},
			[]string{"a", "b"}, []string{"network a:1", "network b:1"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var texts, names []string
			for _, g := range groups(tt.list) {
				texts, names = append(texts, g.text()), append(names, g.name())
			}
			if !slices.Equal(texts, tt.texts) {
				t.Errorf("got  %q\nwant %q", texts, tt.texts)
			}
			if !slices.Equal(names, tt.name) {
				t.Errorf("got  %q\nwant %q", names, tt.name)
			}
		})
	}
}

// What somebody else granted, or at another time, is told by itself.
func TestGroupsOfGrants(t *testing.T) {
	list := registrations("tool", "a", "b", "c")
	list[0].Actor, list[1].Actor, list[2].Actor = "uid:0", "uid:1", "uid:0"
	var b strings.Builder
	printGranted(&b, list)
	want := `  - Its tools are offered to agents: a, c.
      registration tool:NAME by uid:0
  - sentence of b
      registration tool:b by uid:1
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

// An install ends with a few lines, however much a plugin asks for.
func TestPrintFirst(t *testing.T) {
	var b strings.Builder
	printFirst(&b, hooksOn("observe", "a", "b", "c", "d", "e", "f", "g"), "ocmt plugins permissions p")
	if lines := strings.Count(b.String(), "\n"); lines != 2*maxPending+1 || !strings.HasSuffix(b.String(), "  and 2 more: ocmt plugins permissions p\n") {
		t.Errorf("got\n%s", b.String())
	}
	b.Reset()
	r := v1.Review{Plugin: "p", Diagnostics: slices.Repeat([]v1.Diagnostic{{Level: "warn", Message: "odd"}}, maxDiagnostics+2)}
	printDiagnostics(&b, r)
	if want := "\n" + strings.Repeat("warn: odd\n", maxDiagnostics) + "and 2 more, which \"ocmt plugins info p\" shows once it is installed\n"; b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestPriorityText(t *testing.T) {
	for priority, want := range map[float64]string{0: "0", -5: "-5", 0.5: "0.5", 1_000_000: "1000000", 1e308: "1e+308", 5e-324: "4.941e-324"} {
		if got := priorityText(priority); got != want {
			t.Errorf("%g: got %s, want %s", priority, got, want)
		}
	}
}
