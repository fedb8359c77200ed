package httpapi

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

// KeyParam marks a request that is to be answered once; see [TenantParam].
type KeyParam struct {
	Key string `header:"Idempotency-Key" minLength:"1" maxLength:"255" pattern:"^[ -~]+$" doc:"the same request with the same key gets the first answer again, for ten minutes"`
}

// keyed names the request: parts are all that makes it the same one.
func (in *KeyParam) keyed(tenant string, parts ...any) keyed {
	if in.Key == "" {
		return keyed{}
	}
	return keyed{tenant, in.Key, fingerprint(parts...)}
}

// keyedAnswer is an answer that may have been given before.
type keyedAnswer[T any] struct {
	Replayed string `header:"Idempotency-Replayed" enum:"true" doc:"set if this is the answer to an earlier request with the same key"`
	Body     T
}

// once answers a request with an idempotency key.
func once[T any](ctx context.Context, r *replays, k keyed, run func(context.Context) (T, error)) (*keyedAnswer[T], error) {
	value, replayed, err := r.do(ctx, k, func(ctx context.Context) (any, error) { return run(ctx) })
	header := http.Header{}
	if replayed {
		header.Set(v1.IdempotencyReplayed, "true")
	}
	if err != nil {
		e := newAPIError(err)
		maps.Copy(header, e.header)
		return nil, &apiError{body: e.body, status: e.status, header: header}
	}
	return &keyedAnswer[T]{Replayed: header.Get(v1.IdempotencyReplayed), Body: value.(T)}, nil
}

func (a *api) toolRoutes(r *routes) {
	const tag = "tools"
	listing[v1.Tool, v1.ToolList]{
		name:  tag,
		items: func(ctx context.Context, tenant string) ([]v1.Tool, error) { return a.backend.Tools.Tools(ctx, tenant) },
		key:   func(t v1.Tool) string { return t.Tenant + "/" + t.Plugin + "/" + t.Name },
		page:  func(items []v1.Tool, next string) v1.ToolList { return v1.ToolList{Tools: items, Next: next} },
	}.register(r)
	call := op(AccessCall, http.MethodPost, pluginPath+"/tools/{tool}/call", "call-tool", "Call a tool", tag)
	call.MaxBodyBytes = v1.MaxCallBody
	call.Description = "Hanging up cancels the call, unless another request with the same idempotency key waits for it."
	handle(r, call, a.call)

	stream := op(AccessCall, http.MethodPost, pluginPath+"/tools/{tool}/stream", "stream-tool", "Call a tool and follow the call", tag)
	stream.MaxBodyBytes = v1.MaxCallBody
	stream.Description = "Answers with server-sent events: any number of \"update\" (the tool's interim result, any JSON) and \"ask\" (Approval: " +
		"the call waits until it is resolved; once more when it is), then \"done\" (CallResult) or \"error\" (Error). To a client that reads " +
		"slowly not every update is sent. A repeated request gets the last event only. " + call.Description
	streams(r, &stream, map[string]any{v1.EventUpdate: nil, v1.EventAsk: v1.Approval{}, v1.EventDone: v1.CallResult{}, v1.EventError: v1.Error{}})
	stream.Responses["200"].Headers = map[string]*huma.Param{v1.IdempotencyReplayed: {Schema: &huma.Schema{Type: huma.TypeString}}}
	handle(r, stream, a.stream)
}

type callInput struct {
	PluginParam
	KeyParam
	Tool string `path:"tool" maxLength:"256" doc:"name of the tool"`
	Body v1.CallRequest
}

func (a *api) call(ctx context.Context, in *callInput) (*keyedAnswer[v1.CallResult], error) {
	return once(ctx, a.replays, in.keyed(in.Tenant, "call", in.ID, in.Tool, in.Body), func(ctx context.Context) (v1.CallResult, error) {
		result, err := a.backend.Tools.Call(ctx, in.Tenant, in.ID, in.Tool, in.Body, CallWatch{})
		return withResult(result), err
	})
}

func withResult(r v1.CallResult) v1.CallResult {
	if r.Result == nil {
		r.Result = json.RawMessage("null")
	}
	return r
}

func (a *api) stream(ctx context.Context, in *callInput) (*huma.StreamResponse, error) {
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		_, w := humago.Unwrap(hctx)
		s := &callStream{w: w, box: newOutbox()}
		defer s.close()
		value, replayed, err := a.replays.do(ctx, in.keyed(in.Tenant, "stream", in.ID, in.Tool, in.Body), func(ctx context.Context) (any, error) {
			s.begin()
			result, err := a.backend.Tools.Call(ctx, in.Tenant, in.ID, in.Tool, in.Body, s.watch())
			return withResult(result), err
		})
		s.end(value, replayed, err)
	}}, nil
}

// callStream is the stream of a call. It begins when the call does, or at the
// end for an answer that was given before or could not be had.
type callStream struct {
	w    http.ResponseWriter
	box  *outbox
	pump sync.WaitGroup

	mu     sync.Mutex
	events *events
	ended  bool // too late to begin
}

func (s *callStream) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return // the call goes on for others
	}
	s.events = startEvents(s.w)
	s.pump.Go(func() { s.box.pump(s.events.send) })
}

func (s *callStream) watch() CallWatch {
	return CallWatch{
		Update: func(update json.RawMessage) {
			if json.Valid(update) {
				s.box.put(outgoing{v1.EventUpdate, update, false})
			}
		},
		Ask: func(a v1.Approval) {
			if text, err := json.Marshal(withDecisions(a)); err == nil {
				s.box.put(outgoing{v1.EventAsk, text, true})
			}
		},
	}
}

// end sends the last event.
func (s *callStream) end(value any, replayed bool, err error) {
	events := s.stop()
	if replayed {
		s.w.Header().Set(v1.IdempotencyReplayed, "true")
	}
	if events == nil && !replayed {
		writeError(s.w, err) // it did not begin: the key was refused
		return
	}
	if events == nil {
		events = startEvents(s.w)
		defer events.close()
	}
	s.box.close()
	s.pump.Wait()
	if err != nil {
		events.send(v1.EventError, newAPIError(err)) //nolint:errcheck // the client is gone, and its call has ended
		return
	}
	events.send(v1.EventDone, value) //nolint:errcheck // see above
}

// stop returns the events if the stream began, and keeps it from beginning.
func (s *callStream) stop() *events {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	return s.events
}

// close also ends a stream whose call goes on for others, or panicked.
func (s *callStream) close() {
	s.box.close()
	if events := s.stop(); events != nil {
		events.close()
	}
	s.pump.Wait()
}
