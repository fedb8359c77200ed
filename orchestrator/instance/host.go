package instance

import (
	"context"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/ocmt/ocmt/bus/subject"
	"github.com/ocmt/ocmt/bus/wire"
)

// What a plugin may ask of the host; what comes faster is dropped before it is
// read, as in the handshake.
const (
	hostCallsPerSecond = 50
	hostCallBurst      = 100
	maxHostCalls       = 16 // under way at once
	hostCallTime       = time.Minute
	healthPerSecond    = 10
	healthBurst        = 20
)

// codeBusy answers a host call beyond maxHostCalls.
const codeBusy = "busy"

// serveHost listens for what services report and for host calls.
func (in *Instance) serveHost() error {
	limiter := rate.NewLimiter(hostCallsPerSecond, hostCallBurst)
	err := in.peer.HandleAsync(subject.Host, func(ctx context.Context, data []byte, answer func([]byte)) {
		if limiter.Allow() {
			in.onHost(ctx, data, answer)
		}
	})
	if err != nil || in.plan.Discovery {
		return err
	}
	return in.peer.Handle(subject.Health, limited(rate.NewLimiter(healthPerSecond, healthBurst), in.onHealth))
}

func (in *Instance) onHealth(_ context.Context, data []byte) []byte {
	var health wire.ServiceHealth
	if err := wire.Decode(data, &health); err != nil {
		in.logger.Debug("dropped a report of a service", "error", err)
		return nil
	}
	health.Reason = clip(health.Reason, wire.MaxReason)
	if in.onServiceHealth != nil {
		in.onServiceHealth(in.plan.Key, in.id, health)
	}
	return nil
}

// onHost answers a host call: at once when it is refused, and else from a
// goroutine of its own, so that one which takes its time holds up no other.
func (in *Instance) onHost(ctx context.Context, data []byte, answer func([]byte)) {
	var call wire.HostCall
	if err := wire.Decode(data, &call); err != nil {
		in.logger.Debug("dropped a host call", "error", err)
		return
	}
	call.Params = orNull(call.Params)
	refuse := func(code, message string) {
		answer(in.encodeHost(call.ID, wire.HostResult{Error: &wire.Error{Code: code, Message: message}}))
	}
	switch {
	case in.plan.Discovery || in.onHostCall == nil:
		refuse(wire.CodeNoHost, "there is no host to ask")
		return
	case call.Method != wire.HostLog && !slices.Contains(in.plan.Host, call.Method):
		refuse(wire.CodeNotGranted, "this method is not granted to the plugin")
		return
	}
	select {
	case in.hostCalls <- struct{}{}:
	default:
		refuse(codeBusy, "too many host calls at once")
		return
	}
	go func() {
		defer func() { <-in.hostCalls }()
		ctx, cancel := context.WithTimeout(ctx, hostCallTime)
		defer cancel()
		answer(in.encodeHost(call.ID, in.onHostCall(ctx, in.plan.Key, call)))
	}()
}

// encodeHost encodes the answer to a host call, or that it cannot be.
func (in *Instance) encodeHost(id string, result wire.HostResult) []byte {
	result.ID = id
	data, err := wire.Encode(&result)
	if err == nil {
		return data
	}
	in.logger.Warn("cannot answer a host call", "error", err)
	data, err = wire.Encode(&wire.HostResult{ID: id, Error: &wire.Error{Code: "internal", Message: "the host's answer cannot be sent"}})
	if err != nil {
		return nil
	}
	return data
}
