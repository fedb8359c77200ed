package daemon

import (
	"context"
	"encoding/json"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus/wire"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/audit"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// hostAPI implements httpapi.Hosts.
type hostAPI struct{ d *Daemon }

func (b hostAPI) Attach(ctx context.Context, tenant string, hello v1.HostMessage, send func(v1.HostMessage) error) (answer func(v1.HostMessage), err error) {
	err = b.d.audited(ctx, plugin.Key{Tenant: tenant}, "host.attach", hello.Name, func() (err error) {
		answer, err = b.d.hosts.Attach(ctx, tenant, hello, send)
		return err
	})
	return answer, err
}

// onHostCall answers what a plugin asks of the host: by the daemon itself, or
// by a host that is attached. The instance has seen that it was granted.
func (d *Daemon) onHostCall(ctx context.Context, key plugin.Key, call wire.HostCall) wire.HostResult {
	switch call.Method {
	case wire.HostLog:
		d.hosts.Notify(key.Tenant, key.ID, v1.HostLog, call.Params)
		return wire.HostResult{Result: json.RawMessage("null")}
	case wire.HostEmit:
		return d.emitted(ctx, key, call)
	case wire.HostWish:
		return d.wished(key, call)
	}
	result, err := d.hosts.Call(ctx, key.Tenant, key.ID, call.Method, call.Params)
	return hostResult(result, err)
}

// emitted passes an event of a plugin on: to those who watch, and to the host
// that takes such events, if there is one.
func (d *Daemon) emitted(ctx context.Context, key plugin.Key, call wire.HostCall) wire.HostResult {
	var params struct {
		Event   string          `json:"event"`
		Payload json.RawMessage `json:"payload"`
	}
	if err := json.Unmarshal(call.Params, &params); err != nil || params.Event == "" {
		return wire.HostResult{Error: &wire.Error{Code: "invalid_params", Message: `host.emit needs {"event", "payload"}`}}
	}
	name := "plugin." + key.ID + "." + plugin.Printable(params.Event, 200)
	rec := audit.Record{
		Tenant: key.Tenant, Plugin: key.ID, Actor: "plugin:" + key.ID, Action: "host.emit", Target: name,
		Outcome: outcomeDone, Params: d.audit.HMAC(key.Tenant, params.Payload),
	}
	if err := d.note(ctx, rec); err != nil {
		return hostResult(nil, err)
	}
	d.events.Publish(key.Tenant, key.ID, v1.EventPlugin, v1.PluginEvent{Event: name, Payload: watched(params.Payload)})
	result, err := d.hosts.Call(ctx, key.Tenant, key.ID, v1.HostEmit, call.Params)
	if errdefs.IsUnavailable(err) && fault.Of(err).Code == wire.CodeNoHost {
		return wire.HostResult{Result: json.RawMessage("null")} // nobody listens, as in OpenClaw
	}
	return hostResult(result, err)
}

// maxWatched bounds what watchers are shown of an event of a plugin, bytes: the
// hosts that answer get all of it, while the events that are kept are everybody's.
const maxWatched = 4 << 10

func watched(payload json.RawMessage) json.RawMessage {
	if len(payload) > maxWatched {
		return json.RawMessage(`{"truncated":true}`)
	}
	return payload
}

func hostResult(result json.RawMessage, err error) wire.HostResult {
	if err != nil {
		f := fault.Of(err)
		return wire.HostResult{Error: &wire.Error{Code: f.Code, Message: f.Message}}
	}
	if len(result) == 0 {
		result = json.RawMessage("null")
	}
	return wire.HostResult{Result: result}
}
