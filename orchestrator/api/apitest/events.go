package apitest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// event notes that something happened.
func (b *Backend) event(tenant, plugin, kind string, data any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.eventLocked(tenant, plugin, kind, data)
}

// eventLocked needs the lock.
func (b *Backend) eventLocked(tenant, plugin, kind string, data any) {
	e := v1.Event{Seq: uint64(len(b.events)) + 1, Time: Epoch, Tenant: tenant, Plugin: plugin, Type: kind}
	if data != nil {
		text, err := json.Marshal(data)
		if err != nil {
			panic(err) // our own types
		}
		e.Data = text
	}
	b.events = append(b.events, e)
	close(b.happened)
	b.happened = make(chan struct{})
}

// Events sends all events since New. The first three are two installs and a
// change of demo's state.
func (b *Backend) Events(ctx context.Context, q v1.EventQuery, send func(v1.Event) error) error {
	for {
		b.mu.Lock()
		since := min(q.Since, uint64(len(b.events)))
		news, happened := slices.Clone(b.events[since:]), b.happened
		b.mu.Unlock()
		for _, e := range news {
			q.Since = e.Seq
			if q.Tenant != "" && e.Tenant != q.Tenant {
				continue
			}
			if err := send(e); err != nil {
				return err
			}
		}
		if !q.Follow {
			return nil
		}
		select {
		case <-happened:
		case <-ctx.Done():
			return nil
		}
	}
}

// host is an attached host.
type host struct {
	tenant string
	hello  v1.HostMessage
	send   func(v1.HostMessage) error

	mu      sync.Mutex
	calls   int
	waiting map[string]chan v1.HostMessage
}

// Attach attaches any host but one whose name is "refused".
func (b *Backend) Attach(ctx context.Context, tenant string, hello v1.HostMessage, send func(v1.HostMessage) error) (func(v1.HostMessage), error) {
	if hello.Name == "refused" {
		return nil, fault.New(errdefs.ErrPermissionDenied, "host_refused", "no host of that name is admitted")
	}
	h := &host{tenant: tenant, hello: hello, send: send, waiting: make(map[string]chan v1.HostMessage)}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hosts = append(b.hosts, h)
	context.AfterFunc(ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.hosts = slices.DeleteFunc(b.hosts, func(other *host) bool { return other == h })
	})
	return h.answer, nil
}

func (h *host) answer(m v1.HostMessage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if waiting := h.waiting[m.ID]; waiting != nil {
		delete(h.waiting, m.ID)
		waiting <- m
	}
}

// AttachedHosts returns the names of the hosts that are attached in tenant.
func (b *Backend) AttachedHosts(tenant string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var names []string
	for _, h := range b.hosts {
		if h.tenant == tenant {
			names = append(names, h.hello.Name)
		}
	}
	return names
}

// CallHost calls a method of a host of tenant, as plugin demo would.
func (b *Backend) CallHost(ctx context.Context, tenant, method string, params json.RawMessage) (json.RawMessage, error) {
	h, err := b.hostWith(tenant, method)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.calls++
	id, answered := fmt.Sprint(h.calls), make(chan v1.HostMessage, 1)
	h.waiting[id] = answered
	h.mu.Unlock()
	if err := h.send(v1.HostMessage{Type: v1.HostCallType, ID: id, Plugin: "demo", Method: method, Params: params}); err != nil {
		return nil, err
	}
	select {
	case m := <-answered:
		if m.Error != nil {
			return nil, m.Error.Err()
		}
		return m.Result, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// NotifyHosts sends a notice to every host of tenant.
func (b *Backend) NotifyHosts(tenant, method string, params json.RawMessage) error {
	b.mu.Lock()
	hosts := slices.Clone(b.hosts)
	b.mu.Unlock()
	for _, h := range hosts {
		if h.tenant != tenant {
			continue
		}
		if err := h.send(v1.HostMessage{Type: v1.HostNoticeType, Plugin: "demo", Method: method, Params: params}); err != nil {
			return err
		}
	}
	return nil
}

func (b *Backend) hostWith(tenant, method string) (*host, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range b.hosts {
		if h.tenant == tenant && slices.Contains(h.hello.Methods, method) {
			return h, nil
		}
	}
	return nil, fault.New(errdefs.ErrUnavailable, "no_host", "no attached host answers %s", method)
}
