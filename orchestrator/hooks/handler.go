package hooks

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Handler is one handler of one event, as a plugin registered it and as it
// may be used.
type Handler struct {
	Key plugin.Key
	// Index is that of the registration, which names the handler within the
	// plugin.
	Index int
	// Event is what it hooks; its Kind is empty if no host emits such an
	// event, and then the handler is never called.
	Event       plugin.HookEvent
	Priority    float64 // higher runs first
	Form        string  // "export" or "register"
	Registrar   string  // "on", "registerHook", or empty for the export form
	Timeout     time.Duration
	InstalledAt time.Time
	// Rights is what was granted; a handler without any is not called.
	Rights []plugin.HookRight
	// Tools are the only ones whose calls it wants to see, in lower case; empty
	// for all. Of before_tool_call and after_tool_call.
	Tools []string
	// Lacks says what the handler needs of the host and this one does not
	// have, so that it is not called; empty for nothing.
	Lacks string
}

// can reports whether the handler was granted the right and its event has it.
func (h Handler) can(right plugin.HookRight) bool {
	return slices.Contains(h.Rights, right) && slices.Contains(h.Event.Rights, right)
}

// guards reports whether the event stops when the handler fails.
func (h Handler) guards() bool { return h.Event.FailClosed && h.can(plugin.RightBlock) }

// wants reports whether the handler is for calls of that tool.
func (h Handler) wants(tool string) bool {
	return len(h.Tools) == 0 || slices.Contains(h.Tools, strings.ToLower(strings.TrimSpace(tool)))
}

// Sort returns the handlers in the order in which they run: by priority, the
// highest first, then by when their plugins were installed, then by the
// plugins' keys, then as they were registered.
func Sort(handlers []Handler) []Handler {
	return slices.SortedStableFunc(slices.Values(handlers), func(a, b Handler) int {
		return cmp.Or(
			cmp.Compare(b.Priority, a.Priority),
			a.InstalledAt.Compare(b.InstalledAt),
			cmp.Compare(a.Key.Tenant, b.Key.Tenant),
			cmp.Compare(a.Key.ID, b.Key.ID),
			cmp.Compare(a.Index, b.Index),
		)
	})
}

// Timeouts are an operator's, of plugins.entries.<id>.hooks. The zero value
// sets none.
type Timeouts struct {
	All    time.Duration            // timeoutMs: of every hook of the plugin
	Events map[string]time.Duration // timeouts: of one event
}

// of returns how long a handler may take: what the operator set for the event,
// else for the plugin, else what the plugin asked for, else the event's own.
func (t Timeouts) of(event plugin.HookEvent, asked float64) time.Duration {
	if d := t.Events[event.Name]; d > 0 {
		return min(d, plugin.MaxHookTimeout)
	}
	if t.All > 0 {
		return min(t.All, plugin.MaxHookTimeout)
	}
	if asked >= 1 {
		return time.Duration(min(asked, float64(plugin.MaxHookTimeout.Milliseconds()))) * time.Millisecond
	}
	return cmp.Or(event.Timeout, plugin.DefaultHookTimeout)
}

// spec is Registration.Spec of a hook.
type spec struct {
	Event     string          `json:"event"`
	Priority  float64         `json:"priority"`
	TimeoutMs float64         `json:"timeoutMs"`
	Registrar string          `json:"registrar"`
	Matcher   json.RawMessage `json:"matcher"`
	Triggers  json.RawMessage `json:"eligibleTriggers"`
	Authority bool            `json:"requiresToolAuthority"`
}

// HandlersOf returns the handlers that the plugin registered, in order.
// rights says what is granted of an event. A hook that cannot be read is left
// out: it names no event, or a matcher that OpenClaw refuses too.
func HandlersOf(installed plugin.Installed, rights func(event string) []plugin.HookRight, timeouts Timeouts) []Handler {
	handlers := []Handler{}
	for i, r := range installed.Surface.Registrations {
		if r.Kind != plugin.KindHook {
			continue
		}
		h, err := handlerOf(r, timeouts)
		if err != nil {
			continue
		}
		h.Key, h.Index, h.InstalledAt = installed.Key, i, installed.FirstInstalled()
		h.Rights = rights(h.Event.Name)
		handlers = append(handlers, h)
	}
	return handlers
}

// EventsOf returns the events of the hooks among what a plugin registered, by
// the number of the handler.
func EventsOf(surface plugin.Surface) map[int]string {
	events := map[int]string{}
	none := func(string) []plugin.HookRight { return nil }
	for _, h := range HandlersOf(plugin.Installed{Surface: surface}, none, Timeouts{}) {
		events[h.Index] = h.Event.Name
	}
	return events
}

func handlerOf(r plugin.Registration, timeouts Timeouts) (Handler, error) {
	var s spec
	if len(r.Spec) > 0 {
		if err := json.Unmarshal(r.Spec, &s); err != nil {
			return Handler{}, err
		}
	}
	name := cmp.Or(s.Event, r.Name)
	if name == "" {
		return Handler{}, fmt.Errorf("it names no event: %w", errdefs.ErrInvalidArgument)
	}
	event, ok := plugin.HookEventOf(name)
	if !ok {
		event = plugin.HookEvent{Name: name}
	}
	h := Handler{
		Event: event, Priority: s.Priority, Form: r.Form, Registrar: s.Registrar,
		Timeout: timeouts.of(event, s.TimeoutMs), Lacks: lacks(event.Name, s),
	}
	if event.Name == toolCall || event.Name == "after_tool_call" {
		tools, err := matcher(s.Matcher)
		if err != nil {
			return Handler{}, err
		}
		h.Tools = tools
	}
	return h, nil
}

// lacks says which of OpenClaw's conditions of a handler cannot be met here.
// OpenClaw does not call such handlers either when the host cannot tell.
func lacks(event string, s spec) string {
	switch {
	case event == "before_prompt_build" && s.Authority:
		return "it needs the tool authority of the turn (requiresToolAuthority)"
	case event == "before_agent_reply" && isList(s.Triggers):
		return "it needs to know what triggered the turn (eligibleTriggers)"
	}
	return ""
}

func isList(raw json.RawMessage) bool {
	var list []string
	return json.Unmarshal(raw, &list) == nil && len(list) > 0
}

// matcher reads the tools that a handler is for; nil is all of them.
func matcher(raw json.RawMessage) ([]string, error) {
	if isNull(raw) {
		return nil, nil
	}
	var tools []string
	if err := json.Unmarshal(raw, &tools); err != nil {
		return nil, err
	}
	for i, t := range tools {
		tools[i] = strings.ToLower(strings.TrimSpace(t))
		if tools[i] == "" || tools[i] == "*" {
			return nil, fmt.Errorf("the matcher holds %q: %w", t, errdefs.ErrInvalidArgument)
		}
	}
	if len(tools) == 0 {
		return nil, fmt.Errorf("the matcher is empty: %w", errdefs.ErrInvalidArgument)
	}
	return tools, nil
}
