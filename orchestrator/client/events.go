package client

import (
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client/gen"
)

// Delays between attempts to go on with events.
const (
	firstRetry = 100 * time.Millisecond
	maxRetry   = 5 * time.Second
)

// Events calls each for every event that q asks for, in order, until there is
// no more or, with q.Follow, until ctx ends, which is no error then. A follower
// whose connection breaks comes back and goes on after the last event it saw,
// for as long as it takes; what the daemon no longer has by then is an
// EventGap. It returns the first error of each.
func (c *Client) Events(ctx context.Context, q v1.EventQuery, each func(v1.Event) error) error {
	f := follower{client: c, query: q, each: each}
	err := f.read(ctx)
	delay := firstRetry
	for q.Follow && ctx.Err() == nil && f.begun && f.failed == nil && (err == nil || errdefs.IsUnavailable(err)) {
		wait := time.NewTimer(delay)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
		}
		before := f.query.Since
		err = f.read(ctx)
		if delay = min(2*delay, maxRetry); f.query.Since > before {
			delay = firstRetry
		}
	}
	switch {
	case f.failed != nil:
		return f.failed
	case q.Follow && ctx.Err() != nil:
		return nil //nolint:nilerr // that is how following ends
	}
	return err
}

// follower reads events, with query.Since at the last one.
type follower struct {
	client *Client
	query  v1.EventQuery
	each   func(v1.Event) error
	failed error // each's
	begun  bool  // the daemon has answered
}

// read reads events until they end or break off.
func (f *follower) read(ctx context.Context) error {
	response, err := send(ctx, f.client, f.request())
	if err != nil {
		return err
	}
	defer response.Body.Close()
	f.begun = true
	events := newMessages(response.Body)
	for {
		m, err := events.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return ended(ctx, err)
		case m.name == v1.EventError:
			return whyBroken(ctx, streamError(m.data))
		}
		var e v1.Event
		if err := decode(m.name, m.data, &e); err != nil {
			return whyBroken(ctx, err)
		}
		if seq, err := strconv.ParseUint(m.id, 10, 64); err == nil {
			f.query.Since = seq
		}
		if f.failed = f.each(e); f.failed != nil {
			return f.failed
		}
	}
}

func (f *follower) request() gen.Request[gen.Stream] {
	since := int64(f.query.Since)
	if f.query.Tenant == "" {
		return gen.AllEvents(gen.AllEventsParams{Follow: &f.query.Follow, LastEventID: &since})
	}
	return gen.Events(f.query.Tenant, gen.EventsParams{Follow: &f.query.Follow, LastEventID: &since})
}
