// Package approval holds the tool calls that wait for a person, because a hook
// asked for that, until somebody decides, the call is given up, or its time is
// over. A call that nobody allowed is not allowed.
package approval

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// How an approval ends that nobody decided, as in OpenClaw; the decisions are
// v1.AllowOnce, v1.AllowAlways and v1.Deny.
const (
	Timeout   = "timeout"
	Cancelled = "cancelled"
)

// Kind is the kind of every approval of this package.
const Kind = "call"

// Bounds of a [Broker].
const (
	MaxWaiting     = 256              // approvals of one tenant that wait
	MaxRemembered  = 1000             // approvals that were resolved,
	Remembered     = 10 * time.Minute // for so long
	MaxTitle       = 256              // bytes, of names as well
	MaxDescription = 4 << 10          // bytes
	MaxParams      = 64 << 10         // bytes
)

// Codes of the errors of this package, each with its errdefs class.
const (
	CodeUnknown         = "approval_not_found" // NotFound
	CodeAlreadyResolved = "already_resolved"   // Conflict
	CodeExpired         = "approval_expired"   // FailedPrecondition
	CodeCancelled       = "approval_cancelled" // FailedPrecondition
	CodeBadDecision     = "invalid_decision"   // InvalidArgument
	CodeBadApproval     = "invalid_approval"   // InvalidArgument
	CodeTooMany         = "too_many_approvals" // ResourceExhausted
)

// Config says what a [Broker] works with.
type Config struct {
	// Changed is told every approval when it is made, and once more when it
	// has ended: its Decision is set then. It must not block and must not call
	// the broker. May be nil.
	Changed func(v1.Approval)
}

// Broker holds approvals in memory: a call does not outlive the daemon either.
type Broker struct {
	changed func(v1.Approval)

	mu      sync.Mutex
	entries map[string]*entry // by id
	waiting []*entry          // the oldest first
	ended   []*entry          // the oldest first
}

// entry is an approval. The broker's lock holds all of it but done.
type entry struct {
	v1.Approval
	watch   func(v1.Approval)
	endedAt time.Time
	done    chan struct{} // closed when Decision is set
}

// New returns a broker of nothing.
func New(cfg Config) *Broker {
	b := &Broker{changed: cfg.Changed, entries: map[string]*entry{}}
	if b.changed == nil {
		b.changed = func(v1.Approval) {}
	}
	return b
}

type watchKey struct{}

// WithWatch returns a context with which Ask tells watch of its approval, as
// Config.Changed is told, and under the same rules. It is not called after
// Ask has returned.
func WithWatch(ctx context.Context, watch func(v1.Approval)) context.Context {
	return context.WithValue(ctx, watchKey{}, watch)
}

// Ask makes an approval and returns when it has ended: with the decision and
// who made it, with [Cancelled] when ctx ended, or with [Timeout] when timeout
// or the deadline of ctx passed. Anything but one of the two decisions to
// allow must be treated as a refusal.
//
// The texts of a are made printable and cut, its Params replaced by
// {"truncated":true,...} if they are too large to be shown. Its ID and times
// are set here. No Decisions means all; Deny is always one of them. An error
// means that nobody was asked: InvalidArgument or, with MaxWaiting others,
// ResourceExhausted.
func (b *Broker) Ask(ctx context.Context, a v1.Approval, timeout time.Duration) (decision, actor string, err error) {
	e := &entry{Approval: a, done: make(chan struct{})}
	e.watch, _ = ctx.Value(watchKey{}).(func(v1.Approval))
	if err := e.prepare(); err != nil {
		return "", "", err
	}
	e.CreatedAt = time.Now()
	expires := e.CreatedAt.Add(timeout)
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(expires) {
		expires = deadline
	}
	e.ExpiresAt = &expires
	if err := b.add(e); err != nil {
		return "", "", err
	}
	timer := time.NewTimer(time.Until(expires))
	defer timer.Stop()
	select {
	case <-e.done:
	case <-timer.C:
		b.giveUp(e, Timeout)
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			b.giveUp(e, Timeout)
		} else {
			b.giveUp(e, Cancelled)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return e.Decision, e.Actor, nil
}

// prepare makes an approval fit to be kept and shown.
func (e *entry) prepare() error {
	bad := func(format string, args ...any) error {
		return fault.New(errdefs.ErrInvalidArgument, CodeBadApproval, "cannot ask for an approval: "+format, args...)
	}
	e.ID, e.Kind, e.Decision, e.Actor = "", Kind, "", ""
	for _, text := range []*string{&e.Plugin, &e.Title, &e.Severity, &e.Target} {
		*text = plugin.Printable(cut(*text, MaxTitle), MaxTitle)
	}
	e.Description = plugin.Printable(cut(e.Description, MaxDescription), MaxDescription)
	all := []string{v1.AllowOnce, v1.AllowAlways, v1.Deny}
	for _, d := range e.Decisions {
		if !slices.Contains(all, d) {
			return bad("decision %.64q is not known", d)
		}
	}
	if asked := e.Decisions; len(asked) > 0 {
		all = slices.DeleteFunc(all, func(d string) bool { return d != v1.Deny && !slices.Contains(asked, d) })
	}
	e.Decisions = all
	switch {
	case e.Tenant == "":
		return bad("it has no tenant")
	case e.Title == "":
		return bad("it has no title")
	case len(e.Params) > MaxParams:
		e.Params = fmt.Appendf(nil, `{"truncated":true,"bytes":%d}`, len(e.Params))
	case len(e.Params) > 0 && !json.Valid(e.Params):
		return bad("its parameters are no JSON")
	}
	return nil
}

// cut shortens what would be costly to look at.
func cut(s string, n int) string { return s[:min(len(s), 4*n)] }

func (b *Broker) add(e *entry) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, other := range b.waiting {
		if other.Tenant == e.Tenant {
			n++
		}
	}
	if n >= MaxWaiting {
		return fault.New(errdefs.ErrResourceExhausted, CodeTooMany, "%d calls wait for an approval already", n).
			WithHint("`ocmt approvals list` shows them; approve or deny some").WithRetry()
	}
	for e.ID == "" || b.entries[e.ID] != nil {
		e.ID = strings.ToLower(rand.Text())[:12]
	}
	b.entries[e.ID] = e
	b.waiting = append(b.waiting, e)
	b.tell(e)
	return nil
}

// giveUp ends an approval that nobody decided, unless somebody just did.
func (b *Broker) giveUp(e *entry, how string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.Decision == "" {
		b.end(e, how, "")
	}
}

// end is called with the lock held. It returns the approval as it ended; what
// is remembered of it is little.
func (b *Broker) end(e *entry, decision, actor string) v1.Approval {
	e.Decision, e.Actor, e.endedAt = decision, actor, time.Now()
	b.waiting = slices.DeleteFunc(b.waiting, func(other *entry) bool { return other == e })
	b.ended = append(b.ended, e)
	b.forget()
	ended := b.tell(e)
	e.Params, e.Context, e.watch = nil, nil, nil
	close(e.done)
	return ended
}

// forget drops what ended long ago, and what is too much.
func (b *Broker) forget() {
	n := max(0, len(b.ended)-MaxRemembered)
	for n < len(b.ended) && time.Since(b.ended[n].endedAt) >= Remembered {
		n++
	}
	for _, e := range b.ended[:n] {
		delete(b.entries, e.ID)
	}
	b.ended = slices.Delete(b.ended, 0, n)
}

func (b *Broker) tell(e *entry) v1.Approval {
	a := e.copy()
	if e.watch != nil {
		e.watch(a)
	}
	b.changed(a)
	return a
}

// copy returns the approval for others to keep.
func (e *entry) copy() v1.Approval {
	a := e.Approval
	a.Decisions = slices.Clone(a.Decisions)
	return a
}

// Resolve decides. An approval that is not there, or of another tenant, is
// NotFound; one that somebody has decided Conflict; one whose time is over, or
// whose call was given up, FailedPrecondition; and a decision that it does not
// offer InvalidArgument.
func (b *Broker) Resolve(tenant, id, decision, actor string) (v1.Approval, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget()
	e := b.entries[id]
	if e == nil || e.Tenant != tenant {
		return v1.Approval{}, fault.New(errdefs.ErrNotFound, CodeUnknown, "there is no approval %.64q", id).
			WithHint("`ocmt approvals list` shows what waits")
	}
	if e.Decision == "" && !time.Now().Before(*e.ExpiresAt) { // before its Ask has noticed
		b.end(e, Timeout, "")
	}
	if err := e.refuse(decision); err != nil {
		return e.copy(), err
	}
	return b.end(e, decision, cmp.Or(actor, "unknown")), nil
}

// refuse returns why an approval cannot be resolved so, nil if it can.
func (e *entry) refuse(decision string) error {
	at := e.endedAt.UTC().Format(time.RFC3339)
	switch e.Decision {
	case "":
		if slices.Contains(e.Decisions, decision) {
			return nil
		}
		return fault.New(errdefs.ErrInvalidArgument, CodeBadDecision, "approval %q cannot be resolved with %.64q", e.ID, decision).
			WithHint("use one of %s", strings.Join(e.Decisions, ", "))
	case Timeout:
		return fault.New(errdefs.ErrFailedPrecondition, CodeExpired, "the time of approval %q was over at %s, and its call was refused", e.ID, e.ExpiresAt.UTC().Format(time.RFC3339)).
			WithHint("make the call again")
	case Cancelled:
		return fault.New(errdefs.ErrFailedPrecondition, CodeCancelled, "the call of approval %q was given up at %s", e.ID, at).
			WithHint("make the call again")
	}
	return fault.New(errdefs.ErrConflict, CodeAlreadyResolved, "approval %q was resolved already: %s by %s at %s", e.ID, e.Decision, e.Actor, at)
}

// List returns the approvals of tenant, or of all tenants for "", that wait,
// the oldest first.
func (b *Broker) List(tenant string) []v1.Approval {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := []v1.Approval{}
	for _, e := range b.waiting {
		if tenant == "" || e.Tenant == tenant {
			list = append(list, e.copy())
		}
	}
	return list
}
