package instance

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/containerd/errdefs"
	"golang.org/x/time/rate"

	"github.com/ocmt/ocmt/bus"
	"github.com/ocmt/ocmt/bus/subject"
	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// Where things are in the container.
const (
	payloadDir = "/plugin"
	stateDir   = "/state"
)

// A runner says each of these once; a reconnect adds a hello and a ready. What
// comes faster than this is a flood, and is dropped before it is read.
const (
	handshakesPerSecond = 2
	handshakeBurst      = 10
	progressPerSecond   = 200
	progressBurst       = 400
)

// maxLoad bounds what the host tells a plugin, most of it configuration, so
// that a clear error comes before the bus refuses the message.
const maxLoad = 1 << 20

// serveHandshake answers what the runner asks: hello with what to load, ready
// and failed with an acknowledgement. Only the first outcome counts; a runner
// may say hello again after its connection broke.
func (in *Instance) serveHandshake() error {
	load, err := wire.Encode(in.load())
	if err != nil {
		return fmt.Errorf("cannot tell plugin %s what to load: %w", in.plan.Key, err)
	}
	if len(load) > maxLoad {
		return fault.New(errdefs.ErrInvalidArgument, "config_too_large",
			"the configuration and environment of plugin %s take %d bytes, at most %d are possible", in.plan.Key, len(load), maxLoad).
			WithHint("shorten plugins.entries.%s.config in config.json; large data belongs into files", in.plan.Key.ID)
	}
	in.loadMessage = load
	for verb, h := range map[string]struct {
		handle  bus.Handler
		limiter *rate.Limiter
	}{
		subject.Hello:    {in.onHello, rate.NewLimiter(handshakesPerSecond, handshakeBurst)},
		subject.Ready:    {in.onReady, rate.NewLimiter(handshakesPerSecond, handshakeBurst)},
		subject.Failed:   {in.onFailed, rate.NewLimiter(handshakesPerSecond, handshakeBurst)},
		subject.Progress: {in.onProgress, rate.NewLimiter(progressPerSecond, progressBurst)},
	} {
		if err := in.peer.Handle(verb, limited(h.limiter, h.handle)); err != nil {
			return fmt.Errorf("cannot listen for %s of plugin %s: %w", verb, in.plan.Key, err)
		}
	}
	if err := in.serveHost(); err != nil {
		return fmt.Errorf("cannot listen for host calls of plugin %s: %w", in.plan.Key, err)
	}
	return nil
}

// limited drops what comes faster than the limiter allows.
func limited(limiter *rate.Limiter, handle bus.Handler) bus.Handler {
	return func(ctx context.Context, data []byte) []byte {
		if !limiter.Allow() {
			return nil
		}
		return handle(ctx, data)
	}
}

func (in *Instance) onHello(_ context.Context, data []byte) []byte {
	var hello wire.Hello
	if err := wire.Decode(data, &hello); err != nil {
		in.outcome(wire.Ready{}, in.badMessage(err))
		return nil
	}
	return in.loadMessage
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
		return load
	}
	load.Env, load.Host, load.WorkspaceDir = in.plan.Env, in.plan.Host, in.plan.WorkspaceDir
	load.Learn = in.plan.Learn
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
	if in.settled() { // a repetition after a reconnect
		return ack()
	}
	var ready wire.Ready
	if err := wire.Decode(data, &ready); err != nil {
		in.outcome(wire.Ready{}, in.badMessage(err))
		return nil
	}
	in.outcome(ready, nil)
	return ack()
}

func (in *Instance) onFailed(_ context.Context, data []byte) []byte {
	if in.settled() {
		return ack()
	}
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
	in.progressMu.Lock()
	deliver := in.progress[p.ID]
	in.progressMu.Unlock()
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

// settled reports whether the outcome of the load is known.
func (in *Instance) settled() bool {
	select {
	case <-in.ready:
		return true
	default:
		return false
	}
}

func (in *Instance) badMessage(err error) error {
	return fault.New(fault.ErrPlugin, "bad_message", "plugin %s broke the handshake: %w", in.plan.Key, err).
		WithHint("its code interferes with the runner, or the base image is not the one of this ocmt")
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
	wire.CodeRegister:   "register(api) threw; if it misses configuration, write that to plugins.entries.<id>.config in config.json and try again; else report it to the plugin's author",
}

func loadError(id string, failed wire.Failed) error {
	e := failed.Error
	return fault.New(fault.ErrPlugin, "load_"+e.Code, "plugin %s cannot be loaded: %s", id, e.Message).
		WithHint("%s", loadHints[e.Code]).
		WithDetails(map[string]any{"code": e.Code, "name": e.Name, "stack": e.Stack, "diagnostics": failed.Diagnostics})
}
