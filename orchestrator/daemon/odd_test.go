package daemon

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ocmt/ocmt/bus/wire"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// What a plugin registers with odd names is served as far as it can be named,
// and breaks nothing.
func TestOddRegistrations(t *testing.T) {
	s := newStage(t)
	odd := []wire.Registration{
		{Kind: "tool:a", Name: "b"}, {Kind: "strange\x1bkind", Name: "x"},
		{Kind: plugin.KindService, Name: ""}, {Kind: plugin.KindHook, Name: ""}, {Kind: plugin.KindHook, Name: "no such event"},
		{Kind: "httpRoute", Name: strings.Repeat("x", 5000)}, {Kind: "httpRoute", Name: "/\x1b[2J"},
		{Kind: "command", Name: "twice"}, {Kind: "command", Name: "twice"},
		hook("agent_end"), hook("agent_end"),
	}
	for i := range 990 {
		odd = append(odd, tool(fmt.Sprintf("tool_%d", i)))
	}
	for i := range odd {
		if odd[i].Form == "" {
			odd[i].Form = "register"
		}
	}
	started := time.Now()
	key := s.install("odd", script{registers: odd})
	t.Log("installed in", time.Since(started))
	for _, name := range []string{"tool_0", "tool_989"} {
		if _, err := (toolAPI{s.Daemon}).Call(t.Context(), key.Tenant, key.ID, name, v1.CallRequest{Params: json.RawMessage(`{}`)}, httpapi.CallWatch{}); err != nil {
			t.Error(err)
		}
	}
	started = time.Now()
	snapshot, err := hookAPI{s.Daemon}.Snapshot(t.Context(), key.Tenant)
	if err != nil || len(snapshot.Registrations) != 990+2+2 {
		t.Errorf("%d registrations are offered, %v", len(snapshot.Registrations), err)
	}
	if pending := s.permissionRequests(key.Tenant); len(pending) != 0 {
		t.Errorf("requests %+v", pending)
	}
	t.Log("listed in", time.Since(started))
}
