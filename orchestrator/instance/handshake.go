package instance

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// Where things are in the container.
const (
	payloadDir = "/plugin"
	stateDir   = "/state"
)

// serveHandshake answers what the runner asks: hello with what to load, ready
// and failed with an acknowledgement. Only the first outcome counts; a runner
// may say hello again after its connection broke.
func (in *Instance) serveHandshake() error {
	for verb, handle := range map[string]func(context.Context, []byte) []byte{
		"hello":    in.onHello,
		"ready":    in.onReady,
		"failed":   in.onFailed,
		"progress": in.onProgress,
	} {
		if err := in.peer.Handle(verb, handle); err != nil {
			return fmt.Errorf("cannot listen for %s of plugin %s: %w", verb, in.plan.Key, err)
		}
	}
	return nil
}

func (in *Instance) onHello(_ context.Context, data []byte) []byte {
	var hello wire.Hello
	if err := wire.Decode(data, &hello); err != nil {
		in.outcome(wire.Ready{}, in.badMessage(err))
		return nil
	}
	answer, err := wire.Encode(in.load())
	if err != nil {
		in.outcome(wire.Ready{}, err)
		return nil
	}
	return answer
}

func (in *Instance) load() *wire.Load {
	d := in.plan.Descriptor
	load := &wire.Load{
		Tenant: in.plan.Key.Tenant, Plugin: in.plan.Key.ID, Generation: in.plan.Generation,
		Mode: wire.ModeFull, Root: joinRoot(d.Root), Entries: d.Entries, Name: d.Name, Version: d.Version,
		Manifest: orNull(d.Manifest), Config: orNull(in.plan.Config), PluginConfig: orNull(in.plan.PluginConfig),
		StateDir: stateDir, AgentID: "main",
	}
	if in.plan.Discovery {
		load.Mode, load.StateDir = wire.ModeDiscovery, "/tmp"
	}
	return load
}

func joinRoot(root string) string {
	if root == "." || root == "" {
		return payloadDir
	}
	return payloadDir + "/" + root
}

func orNull(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage("null")
	}
	return raw
}

func (in *Instance) onReady(_ context.Context, data []byte) []byte {
	var ready wire.Ready
	if err := wire.Decode(data, &ready); err != nil {
		in.outcome(wire.Ready{}, in.badMessage(err))
		return nil
	}
	in.outcome(ready, nil)
	return ack()
}

func (in *Instance) onFailed(_ context.Context, data []byte) []byte {
	var failed wire.Failed
	if err := wire.Decode(data, &failed); err != nil {
		in.outcome(wire.Ready{}, in.badMessage(err))
		return nil
	}
	in.outcome(wire.Ready{}, loadError(in.plan.Key.ID, failed))
	return ack()
}

func (in *Instance) onProgress(_ context.Context, data []byte) []byte {
	var p wire.Progress
	if err := wire.Decode(data, &p); err != nil {
		in.logger.Debug("dropped a progress message", "error", err)
		return nil
	}
	in.mu.Lock()
	deliver := in.progress[p.ID]
	in.mu.Unlock()
	if deliver != nil {
		deliver(p)
	}
	return nil
}

func (in *Instance) outcome(ready wire.Ready, err error) {
	in.settle.Do(func() {
		in.loaded, in.failed = ready, err
		close(in.ready)
	})
}

func (in *Instance) badMessage(err error) error {
	return fault.New(fault.ErrPlugin, "bad_message", "plugin %s broke the handshake: %w", in.plan.Key, err)
}

func ack() []byte {
	data, err := wire.Encode(&wire.Ack{})
	if err != nil {
		return nil
	}
	return data
}

// loadHints says what an author or user can do about a failed load.
var loadHints = map[string]string{
	wire.CodeNoEntry:    "a plugin exports `tools`, `hooks` or `services`, or a default function or object with register(api)",
	wire.CodeAsync:      "make register(api) synchronous; start slow work in a service or a tool",
	wire.CodeDuplicate:  "give every tool its own name",
	wire.CodeIDMismatch: "the id that the entry exports must be the one in openclaw.plugin.json",
	wire.CodeLoad:       "the entry module cannot be imported; the message names what is missing",
	wire.CodeRegister:   "register(api) threw; report it to the plugin's author",
}

func loadError(id string, failed wire.Failed) error {
	e := failed.Error
	return fault.New(fault.ErrPlugin, "load_"+e.Code, "plugin %s cannot be loaded: %s", id, e.Message).
		WithHint("%s", loadHints[e.Code]).
		WithDetails(map[string]any{"code": e.Code, "name": e.Name, "stack": e.Stack, "diagnostics": failed.Diagnostics})
}
