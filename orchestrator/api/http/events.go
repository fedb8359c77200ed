package httpapi

import (
	"context"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

func (a *api) eventRoutes(r *routes) {
	const tag = "events"
	streamed := func(o huma.Operation) huma.Operation {
		o.Description = "Answers with server-sent events whose name is the type, whose id is seq, and whose data is an Event; " +
			"\"error\" (Error) ends a stream that broke off. A client that does not read is dropped, and goes on with Last-Event-ID."
		streams(r, &o, map[string]any{"*": v1.Event{}, v1.EventError: v1.Error{}})
		return o
	}
	handle(r, streamed(op(AccessAdmin, http.MethodGet, "/v1/events", "all-events", "What happens, in all tenants or one", tag)),
		func(ctx context.Context, in *allEventsInput) (*huma.StreamResponse, error) {
			return a.events(ctx, in.Tenant, in.EventsParam), nil
		})
	handle(r, streamed(op(AccessCall, http.MethodGet, tenantPath+"/events", "events", "What happens in a tenant", tag)),
		func(ctx context.Context, in *eventsInput) (*huma.StreamResponse, error) {
			return a.events(ctx, in.Tenant, in.EventsParam), nil
		})
}

// EventsParam says which events to send; see [TenantParam].
type EventsParam struct {
	Since  uint64 `query:"since" doc:"events with a larger seq only"`
	LastID uint64 `header:"Last-Event-ID" doc:"the same, of a client that comes back; counts more than since"`
	Follow bool   `query:"follow" doc:"go on with those to come, until the client hangs up"`
}

type eventsInput struct {
	TenantParam
	EventsParam
}

type allEventsInput struct {
	Tenant string `query:"tenant" doc:"only this tenant's; all tenants' if absent"`
	EventsParam
}

func (in *allEventsInput) check() error { return checkTenantQuery(in.Tenant) }

func (a *api) events(ctx context.Context, tenant string, in EventsParam) *huma.StreamResponse {
	q := v1.EventQuery{Tenant: tenant, Since: in.Since, Follow: in.Follow}
	if in.LastID > 0 {
		q.Since = in.LastID
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		_, w := humago.Unwrap(hctx)
		out := startEvents(w)
		defer out.close()
		gone := false
		err := a.backend.Events.Events(ctx, q, func(e v1.Event) error {
			err := out.sendID(strconv.FormatUint(e.Seq, 10), e.Type, e)
			gone = gone || err != nil
			return err
		})
		if err != nil && !gone && ctx.Err() == nil {
			out.send(v1.EventError, newAPIError(err)) //nolint:errcheck // nobody else is to be told
		}
	}}
}
