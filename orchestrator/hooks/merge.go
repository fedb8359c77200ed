package hooks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// MaxConcat bounds a field that grows with every handler, bytes: joined texts
// and lists.
const MaxConcat = 256 << 10

// State is what the handlers so far have made of an event. Make one with
// [NewState]; [Merge] returns new ones and changes none.
type State struct {
	// Original is the event as it was emitted, Payload as it is now.
	Original, Payload Object
	// Result is what the handlers' results became, by the names that OpenClaw
	// uses for the event.
	Result Object
	// Blocked and Claimed are final: nothing changes the state any more.
	Blocked, Claimed bool
	Reason           string // of the block, as people see it
	// Approval is what a person is to be asked once no handler has blocked.
	Approval *Approval
}

// NewState returns the state of an event that no handler has seen. The
// payload must be a JSON object of at most [MaxPayload] bytes; empty and null
// are {}.
func NewState(payload json.RawMessage) (State, error) {
	o := Object{}
	if !isNull(payload) {
		var err error
		if o, err = object(payload); err != nil {
			return State{}, err
		}
	}
	return State{Original: o, Payload: o}, nil
}

// seen is the event as the next handler gets it.
func (s State) seen(r rule) Object {
	if r.chained {
		return s.Payload
	}
	return s.Original
}

// blocked returns s as it is after a block.
func (s State) blocked(event plugin.HookEvent, reason string, reply Object) State {
	r := ruleOf(event)
	fields := Object{}
	switch {
	case event.Name == agentRun:
		fields["outcome"] = quote("block")
		fields["reason"] = quote(reason)
	case r.block != "":
		fields[r.block] = json.RawMessage("true")
		if reason != "" {
			fields[r.reason] = quote(reason)
		}
	}
	s.Blocked, s.Reason = true, reason
	s.Result = s.Result.with(fields).with(reply)
	return s
}

// Effect says what one result did.
type Effect struct {
	// Status is StatusOK, StatusBlock, StatusClaim, or StatusDropped if
	// something of the result was not taken.
	Status string
	// Dropped says what was not taken, and why.
	Dropped string
	Changes []Change
	// payload says that the payload is another one.
	payload bool
}

// Merge returns the state after a handler's result, by the rule of the event
// and within what the handler was granted; what goes beyond that is dropped.
// An error says that the result is none, which is a failure of the handler:
// then the state stays as it is. A block that the handler may make is taken
// even if the rest of its result cannot be read.
//
// It is a pure function of its arguments.
func Merge(event plugin.HookEvent, s State, from Handler, result wire.HookResult) (State, Effect, error) {
	from.Event = event
	r := ruleOf(event)
	if s.Blocked || s.Claimed {
		return s, Effect{Status: StatusOK}, nil
	}
	w, err := read(r, s, from, result)
	if err != nil && (!w.block || !from.can(plugin.RightBlock)) {
		return s, Effect{}, err
	}
	w = w.within(from)
	next, w, err := w.apply(r, s, event)
	if err != nil {
		return s, Effect{}, err
	}
	e := Effect{Status: StatusOK, Dropped: strings.Join(w.dropped, "; ")}
	switch {
	case next.Blocked:
		e.Status = StatusBlock
		return next, e, nil
	case next.Claimed:
		e.Status = StatusClaim
		return next, e, nil
	case e.Dropped != "":
		e.Status = StatusDropped
	}
	if w.whole || len(w.payload) > 0 || len(w.result) > 0 {
		e.Changes = changes(r, from, s, next)
		e.payload = !maps.EqualFunc(s.Payload, next.Payload, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) })
	}
	return next, e, nil
}

// wish is what a result asks for.
type wish struct {
	payload  Object // fields of the payload, or all of them if whole
	whole    bool
	result   Object // fields of the result
	block    bool
	reason   string
	reply    Object // what goes with the block or the claim
	claim    bool
	approval *Approval
	dropped  []string // what is not taken, and why
}

// within takes from w what the handler may not do. A block and a claim stand
// alone; a change goes with the question to a person on which it depends.
func (w wish) within(h Handler) wish {
	changes := w.whole || len(w.payload) > 0 || len(w.result) > 0
	switch {
	case w.block && h.can(plugin.RightBlock):
		return wish{block: true, reason: w.reason, reply: w.reply, dropped: w.dropped}
	case w.block:
		return wish{dropped: append(w.dropped, "its block: it was not granted to block")}
	case w.approval != nil && !h.can(plugin.RightBlock):
		return wish{dropped: append(w.dropped, "its question to a person, and what depends on it: it was not granted to block")}
	case w.claim && h.can(plugin.RightClaim):
		return wish{claim: true, reply: w.reply, dropped: w.dropped}
	case w.claim:
		return wish{dropped: append(w.dropped, "its claim: it was not granted to claim")}
	case changes && !h.can(plugin.RightModify):
		return wish{approval: w.approval, dropped: append(w.dropped, "its change: it was not granted to modify")}
	}
	return w
}

// apply returns the state with w in it.
func (w wish) apply(r rule, s State, event plugin.HookEvent) (State, wish, error) {
	switch {
	case w.block:
		s = s.blocked(event, w.reason, w.reply)
		if event.Name == agentRun { // its reason is not for people, its message is
			s.Reason = clean(text(w.reply["message"]), wire.MaxReason)
		}
		return s, w, nil
	case w.claim:
		s.Claimed = true
		s.Result = s.Result.with(Object{"handled": json.RawMessage("true")}).with(w.reply)
		return s, w, nil
	}
	if s.Approval != nil && len(w.payload) > 0 {
		w.payload, w.result = nil, nil
		w.dropped = append(w.dropped, "its change: what a person is asked to approve does not change any more")
	}
	if s.Approval != nil && w.approval != nil {
		w.dropped = append(w.dropped, "its question to a person: another plugin's comes first")
	}
	if event.Name == replySending && len(w.payload) > 0 {
		reply, err := untrusted(s.Payload["payload"], w.payload["payload"])
		if err != nil {
			return s, w, err
		}
		w.payload, w.result = Object{"payload": reply}, Object{"payload": reply}
	}
	next := s
	if w.whole {
		next.Payload = w.payload
	} else {
		next.Payload = s.Payload.with(w.payload)
	}
	merged, err := mergeResult(r, event, s.Result, w.result)
	if err != nil {
		return s, w, err
	}
	next.Result = merged
	if (len(w.payload) > 0 && next.Payload.size() > MaxPayload) || (len(w.result) > 0 && merged.size() > MaxPayload) {
		return s, w, fmt.Errorf("with its result the event has more than %d bytes", MaxPayload)
	}
	if w.approval != nil && s.Approval == nil {
		a := *w.approval
		a.Params = next.Payload["params"]
		next.Approval = &a
	}
	return next, w, nil
}

// mergeResult merges the fields of one result into those of the ones before.
func mergeResult(r rule, event plugin.HookEvent, old, fresh Object) (Object, error) {
	if len(fresh) == 0 {
		return old, nil
	}
	if event.Name == finalize {
		return mergeFinalize(old, fresh)
	}
	merged := old.with(fresh)
	for _, f := range r.fields {
		a, b := old[f.name], fresh[f.name]
		if a == nil || b == nil {
			continue
		}
		v, err := f.merge(a, b)
		if err != nil {
			return nil, err
		}
		merged[f.name] = v
	}
	return merged, nil
}

func (f field) merge(a, b json.RawMessage) (json.RawMessage, error) {
	var v json.RawMessage
	switch f.how {
	case last:
		return b, nil
	case first:
		return a, nil
	case intersect:
		return intersection(a, b)
	case concat:
		v = join(a, b)
	case appended:
		v = appendLists(a, b)
	}
	if len(v) > MaxConcat {
		return nil, fmt.Errorf("with its result, %s has more than %d bytes", f.name, MaxConcat)
	}
	return v, nil
}

// join joins two texts by an empty line. OpenClaw lets an empty text take
// away what other plugins contributed; here it adds nothing.
func join(a, b json.RawMessage) json.RawMessage {
	x, y := text(a), text(b)
	switch {
	case y == "":
		return a
	case x == "":
		return b
	}
	return quote(x + "\n\n" + y)
}

func appendLists(a, b json.RawMessage) json.RawMessage {
	x, y := inner(a), inner(b)
	if len(x) > 0 && len(y) > 0 {
		x = append(x, ',')
	}
	return slices.Concat([]byte{'['}, x, y, []byte{']'})
}

// inner is a copy of what is between the brackets of a list.
func inner(list json.RawMessage) []byte {
	list = bytes.TrimSpace(list)
	return bytes.Clone(bytes.TrimSpace(list[1 : len(list)-1]))
}

// mergeFinalize is OpenClaw's: a finalize is final, revisions are joined and
// keep the first retry, and a continue is what is left.
func mergeFinalize(old, fresh Object) (Object, error) {
	before, now := text(old["action"]), text(fresh["action"])
	switch {
	case before == "finalize":
		return old, nil
	case now == "finalize":
		return pick(fresh, "action", "reason"), nil
	case before == "revise" && now == "revise":
		merged := Object{"action": fresh["action"]}
		reason := field{name: "reason", how: concat}
		switch a, b := old["reason"], fresh["reason"]; {
		case a != nil && b != nil:
			v, err := reason.merge(a, b)
			if err != nil {
				return nil, err
			}
			merged["reason"] = v
		case a != nil:
			merged["reason"] = a
		case b != nil:
			merged["reason"] = b
		}
		for _, o := range []Object{fresh, old} {
			if o["retry"] != nil {
				merged["retry"] = o["retry"]
			}
		}
		return merged, nil
	case before == "revise":
		return old, nil
	case now == "revise":
		return pick(fresh, "action", "reason", "retry"), nil
	case now == "continue":
		return pick(fresh, "action", "reason"), nil
	}
	return old, nil
}

func pick(o Object, names ...string) Object {
	picked := Object{}
	for name, value := range o {
		if slices.Contains(names, name) {
			picked[name] = value
		}
	}
	return picked
}
