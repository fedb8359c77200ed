// Package hosts knows the agent hosts that are attached and carries the calls
// of plugins to them. Whether a plugin may make a call is decided before. What
// a host answers counts for its own tenant alone.
package hosts

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Bounds of a [Registry].
const (
	MaxHosts       = 16               // of one tenant
	MaxInFlight    = 64               // calls to one host
	MaxMethods     = 64               // of one host
	MaxName        = 128              // of a host and of a method, bytes
	MaxPayload     = 60 << 10         // of parameters and results, bytes; what carries them has 64 KiB
	DefaultTimeout = 10 * time.Second // of a call whose context has no deadline
	maxMessage     = 4 << 10          // of a host's error, bytes
)

// MethodGap is the notice that tells a host how many notices it has missed
// because it did not read: params {"missed": 3}. Every host gets it.
const MethodGap = "host.gap"

// Codes of the errors of this package, each with its errdefs class. A host's
// own errors pass with their codes and classes.
const (
	CodeNoHost      = "no_host"         // Unavailable
	CodeHostGone    = "host_gone"       // Unavailable, retryable
	CodeHostBusy    = "host_busy"       // ResourceExhausted, retryable
	CodeHostTimeout = "host_timeout"    // DeadlineExceeded
	CodeCancelled   = "cancelled"       // Canceled
	CodeBadParams   = "invalid_params"  // InvalidArgument
	CodeBadAnswer   = "bad_answer"      // Internal: the host's answer is too large
	CodeHostFailed  = "host_failed"     // of a host's error that has no code
	CodeTooMany     = "too_many_hosts"  // ResourceExhausted
	CodeBadHello    = "invalid_hello"   // InvalidArgument
	CodeNoTenant    = "tenant_required" // InvalidArgument
)

// Info is what is known of an attached host.
type Info struct {
	Tenant     string
	Name       string
	Methods    []string
	AttachedAt time.Time
	InFlight   int // calls that it has not answered yet
}

// Registry holds the attached hosts.
type Registry struct {
	mu    sync.Mutex
	hosts map[string][]*host // by tenant, in the order in which they attached
}

// host is one attached host. Its first group of fields does not change.
type host struct {
	info Info
	send func(v1.HostMessage) error
	gone chan struct{} // closed when it is detached

	mu      sync.Mutex
	lastID  uint64
	pending map[string]chan v1.HostMessage // calls under way, by id; each has room for the answer

	noticing sync.Mutex // keeps notices in order
	missed   int        // notices since the last one that it got
}

// New returns a registry without hosts.
func New() *Registry { return &Registry{hosts: map[string][]*host{}} }

// Attach registers a host until ctx ends. hello says what it calls itself and
// which methods it takes. send queues a message for it and must not block; it
// may be called from several goroutines. answer takes what the host answers:
// an answer that nobody waits for, or waits for no longer, is ignored, and so
// is everything that is no answer.
//
// InvalidArgument for a hello that makes no sense, ResourceExhausted when
// MaxHosts of the tenant are attached.
func (r *Registry) Attach(ctx context.Context, tenant string, hello v1.HostMessage, send func(v1.HostMessage) error) (answer func(v1.HostMessage), err error) {
	if tenant == "" {
		return nil, fault.New(errdefs.ErrInvalidArgument, CodeNoTenant, "a host attaches to one tenant")
	}
	if err := check(hello); err != nil {
		return nil, err
	}
	methods := slices.Clone(hello.Methods)
	slices.Sort(methods)
	h := &host{
		info: Info{
			Tenant: tenant, Name: plugin.Printable(hello.Name, MaxName),
			Methods: slices.Compact(methods), AttachedAt: time.Now(),
		},
		send: send, gone: make(chan struct{}), pending: map[string]chan v1.HostMessage{},
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.hosts[tenant]); n >= MaxHosts {
		return nil, fault.New(errdefs.ErrResourceExhausted, CodeTooMany, "%d hosts of tenant %q are attached already", n, tenant).
			WithHint("end one of them first").WithRetry()
	}
	r.hosts[tenant] = append(r.hosts[tenant], h)
	context.AfterFunc(ctx, func() { r.detach(h) })
	return h.answer, nil
}

// check reports why a hello makes no sense.
func check(hello v1.HostMessage) error {
	bad := func(format string, args ...any) error {
		return fault.New(errdefs.ErrInvalidArgument, CodeBadHello, "cannot attach: "+format, args...).
			WithHint(`send {"type":"attach","name":"...","methods":["host.log"]} first`)
	}
	switch {
	case hello.Type != v1.HostAttachType:
		return bad("the message is of type %.64q, not %q", hello.Type, v1.HostAttachType)
	case len(hello.Name) > MaxName:
		return bad("its name has %d bytes, at most %d are allowed", len(hello.Name), MaxName)
	case len(hello.Methods) == 0:
		return bad("it names no methods, so nothing would be sent to it")
	case len(hello.Methods) > MaxMethods:
		return bad("it names %d methods, at most %d are allowed", len(hello.Methods), MaxMethods)
	}
	for _, m := range hello.Methods {
		if !isMethod(m) {
			return bad("%.64q is no method of a host", m)
		}
	}
	return nil
}

// isMethod accepts "host." and then lower-case letters, digits, ".", "_" and
// "-".
func isMethod(m string) bool {
	rest, ok := strings.CutPrefix(m, "host.")
	strange := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
	}
	return ok && rest != "" && len(m) <= MaxName && !strings.ContainsFunc(rest, strange)
}

func (r *Registry) detach(h *host) {
	r.mu.Lock()
	defer r.mu.Unlock()
	tenant := h.info.Tenant
	r.hosts[tenant] = slices.DeleteFunc(r.hosts[tenant], func(other *host) bool { return other == h })
	if len(r.hosts[tenant]) == 0 {
		delete(r.hosts, tenant)
	}
	close(h.gone)
}

// taking returns the hosts of tenant that take method, in the order in which
// they attached.
func (r *Registry) taking(tenant, method string) []*host {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*host
	for _, h := range r.hosts[tenant] {
		if slices.Contains(h.info.Methods, method) {
			list = append(list, h)
		}
	}
	return list
}

// Call carries a plugin's call to the host of tenant that attached last among
// those that take method, and returns its result, "null" if it gave none. The
// error of the host passes with its class and code; else it is Unavailable if
// there is no such host or it goes away meanwhile, ResourceExhausted if it has
// too much to do, InvalidArgument for parameters above MaxPayload, and
// DeadlineExceeded when the deadline of ctx, or DefaultTimeout, is over.
func (r *Registry) Call(ctx context.Context, tenant, pluginID, method string, params json.RawMessage) (json.RawMessage, error) {
	able := r.taking(tenant, method)
	if len(able) == 0 {
		return nil, fault.New(errdefs.ErrUnavailable, CodeNoHost, "no host that takes %.64q is attached to tenant %q", method, tenant).
			WithHint("attach an agent host that answers it")
	}
	if len(params) > MaxPayload {
		return nil, fault.New(errdefs.ErrInvalidArgument, CodeBadParams, "the parameters of %s have %d bytes, at most %d are sent", method, len(params), MaxPayload)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultTimeout)
		defer cancel()
	}
	return able[len(able)-1].call(ctx, v1.HostMessage{Type: v1.HostCallType, Plugin: pluginID, Method: method, Params: params})
}

func (h *host) call(ctx context.Context, m v1.HostMessage) (json.RawMessage, error) {
	answered, err := h.begin(&m)
	if err != nil {
		return nil, err
	}
	defer h.forget(m.ID)
	select {
	case a := <-answered:
		return result(m.Method, a)
	case <-h.gone:
		select {
		case a := <-answered: // just before it went
			return result(m.Method, a)
		default:
			return nil, h.errGone(m.Method)
		}
	case <-ctx.Done():
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, fault.New(context.DeadlineExceeded, CodeHostTimeout, "host %q did not answer %s in time", h.info.Name, m.Method)
	}
	return nil, fault.New(context.Canceled, CodeCancelled, "the call of %s was cancelled", m.Method)
}

// begin sends a call and sets its ID.
func (h *host) begin(m *v1.HostMessage) (<-chan v1.HostMessage, error) {
	answered, err := h.expect(m)
	if err != nil {
		return nil, err
	}
	if err := h.send(*m); err != nil {
		h.forget(m.ID)
		if errdefs.IsUnavailable(err) {
			return nil, h.errGone(m.Method)
		}
		return nil, err
	}
	return answered, nil
}

// expect makes room for the answer to a call.
func (h *host) expect(m *v1.HostMessage) (<-chan v1.HostMessage, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.pending); n >= MaxInFlight {
		return nil, fault.New(errdefs.ErrResourceExhausted, CodeHostBusy, "host %q has %d calls to answer already", h.info.Name, n).WithRetry()
	}
	h.lastID++
	m.ID = strconv.FormatUint(h.lastID, 10)
	answered := make(chan v1.HostMessage, 1)
	h.pending[m.ID] = answered
	return answered, nil
}

func (h *host) forget(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.pending, id)
}

// answer takes a message of the host.
func (h *host) answer(m v1.HostMessage) {
	if m.Type != v1.HostAnswerType {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if answered := h.pending[m.ID]; answered != nil {
		delete(h.pending, m.ID) // a second answer is ignored
		answered <- m
	}
}

func (h *host) errGone(method string) error {
	return fault.New(errdefs.ErrUnavailable, CodeHostGone, "host %q went away before it answered %s", h.info.Name, method).WithRetry()
}

// result is what a host answered.
func result(method string, a v1.HostMessage) (json.RawMessage, error) {
	switch {
	case a.Error != nil:
		e := *a.Error
		e.Code = cmp.Or(plugin.Printable(e.Code, MaxName), CodeHostFailed)
		e.Message = cmp.Or(plugin.Printable(e.Message, maxMessage), "the host failed")
		e.Hint, e.Details = plugin.Printable(e.Hint, maxMessage), nil
		return nil, e.Err()
	case len(a.Result) > MaxPayload:
		return nil, fault.New(errdefs.ErrInternal, CodeBadAnswer, "the host's answer to %s has %d bytes, at most %d are taken", method, len(a.Result), MaxPayload)
	case len(a.Result) == 0:
		return json.RawMessage("null"), nil
	}
	return a.Result, nil
}

// Notify tells every host of tenant that takes method. It does not block and
// does not fail: a host that reads too slowly misses the notice, and is told
// how many it has missed before the next one that it gets.
func (r *Registry) Notify(tenant, pluginID, method string, params json.RawMessage) {
	m := v1.HostMessage{Type: v1.HostNoticeType, Plugin: pluginID, Method: method, Params: params}
	for _, h := range r.taking(tenant, method) {
		h.notify(m)
	}
}

func (h *host) notify(m v1.HostMessage) {
	h.noticing.Lock()
	defer h.noticing.Unlock()
	if h.missed > 0 {
		gap := v1.HostMessage{Type: v1.HostNoticeType, Method: MethodGap, Params: json.RawMessage(`{"missed":` + strconv.Itoa(h.missed) + `}`)}
		if h.send(gap) != nil {
			h.missed++
			return
		}
		h.missed = 0
	}
	if h.send(m) != nil {
		h.missed++
	}
}

// List returns the hosts of tenant, or of all tenants for "": by tenant, and
// in the order in which they attached.
func (r *Registry) List(tenant string) []Info {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := []Info{}
	for name, hosts := range r.hosts {
		if tenant != "" && name != tenant {
			continue
		}
		for _, h := range hosts {
			list = append(list, h.look())
		}
	}
	slices.SortStableFunc(list, func(a, b Info) int { return cmp.Compare(a.Tenant, b.Tenant) })
	return list
}

func (h *host) look() Info {
	h.mu.Lock()
	defer h.mu.Unlock()
	info := h.info
	info.Methods = slices.Clone(info.Methods)
	info.InFlight = len(h.pending)
	return info
}
