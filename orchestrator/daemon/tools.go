package daemon

import (
	"context"
	"encoding/json"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus/wire"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/gateway"
)

// tools answers the API's questions about tools.
type tools struct{ d *Daemon }

// Tools implements httpapi.Tools.
func (b tools) Tools(_ context.Context, tenant string) ([]v1.Tool, error) {
	list := []v1.Tool{}
	for _, p := range b.d.catalog.list(tenant) {
		list = append(list, toolList(p)...)
	}
	return list, nil
}

// Call implements httpapi.Tools.
func (b tools) Call(ctx context.Context, tenant, ref, tool string, req v1.CallRequest) (json.RawMessage, error) {
	p, err := b.d.catalog.get(tenant, ref)
	if err != nil {
		return nil, err
	}
	result, err := b.d.gateway.Call(ctx, gateway.Request{
		Key: p.Key, Tool: tool, Params: req.Params, Context: callContext(req.Context),
		Timeout: time.Duration(req.TimeoutMillis) * time.Millisecond,
	})
	if errdefs.IsCanceled(err) && isClosed(b.d.stopping) {
		return nil, fault.New(errdefs.ErrUnavailable, "shutting_down", "the daemon is stopping; the call of tool %q was given up", tool).
			WithHint("try again when it runs").WithRetry()
	}
	return result, err
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// defaultAgent is the agent of calls that name none.
const defaultAgent = "main"

func callContext(c v1.CallContext) wire.Context {
	if c.AgentID == "" {
		c.AgentID = defaultAgent
	}
	return wire.Context{
		AgentID: c.AgentID, SessionKey: c.SessionKey, SessionID: c.SessionID, RunID: c.RunID,
		ToolCallID: c.ToolCallID, SenderID: c.SenderID, WorkspaceDir: c.WorkspaceDir,
	}
}
