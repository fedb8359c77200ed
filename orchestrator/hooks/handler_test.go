package hooks

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

func TestSort(t *testing.T) {
	at := func(n int64) time.Time { return time.Unix(n, 0) }
	want := []Handler{
		{Key: plugin.Key{ID: "z"}, Index: 9, Priority: 10.5, InstalledAt: at(9)},
		{Key: plugin.Key{ID: "b"}, Index: 3, InstalledAt: at(1)},
		{Key: plugin.Key{ID: "b"}, Index: 4, InstalledAt: at(1)},
		{Key: plugin.Key{ID: "a"}, Index: 1, InstalledAt: at(2)},
		{Key: plugin.Key{ID: "c"}, Index: 0, InstalledAt: at(2)},
		{Key: plugin.Key{ID: "a"}, Index: 0, Priority: -1, InstalledAt: at(0)},
	}
	for range 100 {
		shuffled := append([]Handler(nil), want...)
		rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		before := fmt.Sprint(shuffled)
		if got := Sort(shuffled); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("Sort() = %v, want %v", got, want)
		}
		if fmt.Sprint(shuffled) != before {
			t.Fatal("Sort() changed its argument")
		}
	}
}

func TestHandlersOf(t *testing.T) {
	hook := func(form, spec string) plugin.Registration {
		return plugin.Registration{Kind: plugin.KindHook, Name: "n", Form: form, Spec: json.RawMessage(spec)}
	}
	installed := plugin.Installed{Key: plugin.Key{Tenant: "t", ID: "p"}, InstalledAt: time.Unix(7, 0), Surface: plugin.Surface{Registrations: []plugin.Registration{
		{Kind: plugin.KindTool, Name: "x"},
		hook("register", `{"event":"before_tool_call","priority":5.5,"timeoutMs":2000,"registrar":"on","matcher":["Exec "]}`),
		hook("export", `{"event":"agent:message:before"}`),
		hook("register", `{"event":"before_tool_call","matcher":[]}`),
		hook("register", `{"event":"before_tool_call","matcher":["*"]}`),
		hook("register", `{"event":"before_tool_call","priority":"high"}`),
		hook("register", `{"event":"subagent_spawning"}`),
		hook("register", `{"event":"before_prompt_build","requiresToolAuthority":true,"matcher":[]}`),
		hook("register", `{"event":"before_agent_reply","eligibleTriggers":["cron"]}`),
		{Kind: plugin.KindHook, Name: "message_received", Form: "export"},
	}}}
	rights := func(event string) []plugin.HookRight {
		if event == "agent:message:before" {
			return nil
		}
		return []plugin.HookRight{plugin.RightObserve}
	}
	handlers := HandlersOf(installed, rights, Timeouts{})
	var got []string
	for _, h := range handlers {
		got = append(got, fmt.Sprintf("%s %d %s %s %v %s %s rights=%d tools=%v lacks=%v", h.Key, h.Index, h.Event.Name, h.Event.Kind, h.Priority, h.Form, h.Timeout, len(h.Rights), h.Tools, h.Lacks != ""))
	}
	want := []string{
		"t/p 1 before_tool_call gate 5.5 register 2s rights=1 tools=[exec] lacks=false",
		"t/p 2 agent:message:before gate 0 export 15s rights=0 tools=[] lacks=false",
		"t/p 6 subagent_spawning  0 register 15s rights=1 tools=[] lacks=false",
		"t/p 7 before_prompt_build modify 0 register 15s rights=1 tools=[] lacks=true",
		"t/p 8 before_agent_reply claim 0 register 2m0s rights=1 tools=[] lacks=true",
		"t/p 9 message_received observe 0 export 15s rights=1 tools=[] lacks=false",
	}
	if len(got) != len(want) {
		t.Fatalf("HandlersOf() has %d handlers, want %d: %q", len(got), len(want), got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("handler %d is %q, want %q", i, got[i], want[i])
		}
	}
	if handlers[0].Registrar != "on" || !handlers[0].InstalledAt.Equal(installed.InstalledAt) {
		t.Errorf("the first handler is %+v", handlers[0])
	}
}

func TestEventsOf(t *testing.T) {
	got := EventsOf(plugin.Surface{Registrations: []plugin.Registration{
		{Kind: plugin.KindTool, Name: "agent_end"}, {Kind: plugin.KindHook, Name: "agent_end"},
		{Kind: plugin.KindHook, Name: "x", Spec: json.RawMessage(`{"event":"llm_input"}`)}, {Kind: plugin.KindHook},
	}})
	if want := map[int]string{1: "agent_end", 2: "llm_input"}; !maps.Equal(got, want) {
		t.Errorf("EventsOf() = %v, want %v", got, want)
	}
}

func TestTimeouts(t *testing.T) {
	both := Timeouts{All: 3 * time.Second, Events: map[string]time.Duration{"agent_end": 4 * time.Second}}
	tests := []struct {
		set   Timeouts
		asked float64
		event string
		want  time.Duration
	}{
		{both, 1000, "agent_end", 4 * time.Second},
		{both, 1000, "llm_input", 3 * time.Second},
		{Timeouts{}, 1000, "agent_end", time.Second},
		{Timeouts{}, 1e12, "agent_end", plugin.MaxHookTimeout},
		{Timeouts{}, -1, "agent_end", 30 * time.Second},
		{Timeouts{}, 0, "unknown", plugin.DefaultHookTimeout},
		{Timeouts{All: time.Hour}, 0, "agent_end", plugin.MaxHookTimeout},
	}
	for _, tt := range tests {
		e, ok := plugin.HookEventOf(tt.event)
		if !ok {
			e.Name = tt.event
		}
		if got := tt.set.of(e, tt.asked); got != tt.want {
			t.Errorf("with %v, %s that asks for %v ms has %s, want %s", tt.set, tt.event, tt.asked, got, tt.want)
		}
	}
}
