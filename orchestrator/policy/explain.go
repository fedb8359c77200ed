package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// maxShown bounds a name within a sentence, in bytes.
const maxShown = 200

// Explain says in one sentence, fit for a terminal, what a permission is. It
// also explains what cannot be granted as it is, such as a workspace without
// a path.
func Explain(kind Kind, target, value string) string {
	shown := plugin.Printable(target, maxShown)
	switch kind {
	case Network:
		return explainNetwork(target, value)
	case Workspace:
		return explainWorkspace(shown, value)
	case Secret:
		return fmt.Sprintf("It may use the secret %s where the secret's owner allows it.", shown)
	case Env:
		return fmt.Sprintf("It may read the environment variable %s of the host.", shown)
	case Config:
		return fmt.Sprintf("It may read %s in config.json.", shown)
	case Hook:
		return explainHook(target, value)
	case Host:
		return fmt.Sprintf("It may call host.%s, which sends events of its own to the agent host.", shown)
	case Resource:
		return explainResource(target, plugin.Printable(value, maxShown))
	case Registration:
		return explainRegistration(shown)
	}
	return fmt.Sprintf("It asks for %s %s, which this version does not know.", plugin.Printable(string(kind), 50), shown)
}

func explainNetwork(target, value string) string {
	rule, err := readRule(target, value)
	if err != nil {
		return fmt.Sprintf("It may connect to %s.", plugin.Printable(target+" "+value, maxShown))
	}
	host := rule.Host
	if base, wildcard := strings.CutPrefix(host, "*."); wildcard {
		host = "every host directly below " + base
	}
	how := "encrypted"
	if rule.Plaintext {
		how = "also without encryption"
	}
	sentence := fmt.Sprintf("It may connect to %s on port %d, %s", host, rule.Port, how)
	if rule.Host == plugin.Localhost {
		sentence += ", which is this machine itself"
	}
	if len(rule.Addresses) > 0 {
		ranges := make([]string, len(rule.Addresses))
		for i, p := range rule.Addresses {
			ranges[i] = p.String()
		}
		sentence += ", at the addresses " + strings.Join(ranges, ", ")
		if rule.Host != plugin.Localhost {
			sentence += " and public ones"
		}
	}
	if len(rule.Requests) > 0 {
		sentence += ", for these requests alone: " + strings.Join(rule.Requests, ", ")
	}
	return sentence + "."
}

func explainWorkspace(dir, value string) string {
	where := "directories that you name"
	if dir != "" {
		where = "the directory " + dir
	}
	if value == plugin.WorkspaceRW {
		return fmt.Sprintf("It may read and change everything in %s.", where)
	}
	return fmt.Sprintf("It may read everything in %s.", where)
}

func explainResource(target, value string) string {
	switch target {
	case Memory:
		return fmt.Sprintf("It may use up to %s of memory.", value)
	case CPUs:
		return fmt.Sprintf("It may use up to %s processors.", value)
	case State:
		return fmt.Sprintf("It may keep up to %s in its own directory.", value)
	}
	return fmt.Sprintf("It may run up to %s processes and threads.", value)
}

// events says when the best-known events come, to complete "It may read".
var events = map[string]string{
	"before_tool_call":      "every tool call before it runs",
	"after_tool_call":       "every tool call after it ran",
	"tool_result_persist":   "every tool result before it is stored",
	"message_received":      "every message that arrives",
	"message_sending":       "every message before it is sent",
	"message_sent":          "every message that was sent",
	"before_message_write":  "every message before it is stored",
	"reply_payload_sending": "every reply before it is sent",
	"inbound_claim":         "every message before the agent gets it",
	"before_install":        "every install of a plugin before it counts",
	"resolve_exec_env":      "the environment of every command that agents run",
	"before_prompt_build":   "every prompt before it is sent to a model",
	"before_agent_start":    "every prompt before it is sent to a model",
	"llm_input":             "everything that is sent to models",
	"llm_output":            "everything that models answer",
	"agent_end":             "every conversation when the agent is done",
	"gateway_start":         "the start of the agent host",
	"gateway_stop":          "the stop of the agent host",
	"session_start":         "the start of every session",
	"session_end":           "the end of every session",
}

func explainHook(name, value string) string {
	shown := plugin.Printable(name, maxShown)
	event, err := plugin.LookupEvent(name)
	if err != nil {
		return fmt.Sprintf("It has a hook on %s, an event that no host sends.", shown)
	}
	what := "every " + shown + " event"
	if text, ok := events[name]; ok {
		what = text
	}
	verbs := []string{"read"}
	rights := parseRights(name, value)
	for _, r := range []struct {
		right plugin.HookRight
		verb  string
	}{{plugin.RightModify, "change"}, {plugin.RightBlock, "block"}, {plugin.RightClaim, "answer in the agent's place"}} {
		if slices.Contains(rights, r.right) {
			verbs = append(verbs, r.verb)
		}
	}
	sentence := fmt.Sprintf("It may %s %s", and(verbs), what)
	var notes []string
	if _, known := events[name]; known {
		notes = append(notes, shown)
	}
	if event.Conversation {
		notes = append(notes, "it carries what people and agents say")
	}
	if event.Prompt && slices.Contains(rights, plugin.RightModify) {
		notes = append(notes, "it can put words into prompts")
	}
	if len(notes) > 0 {
		sentence += " (" + strings.Join(notes, "; ") + ")"
	}
	return sentence + "."
}

// and returns "a", "a and b", or "a, b and c".
func and(words []string) string {
	last := len(words) - 1
	if last == 0 {
		return words[0]
	}
	return strings.Join(words[:last], ", ") + " and " + words[last]
}

var registrations = map[string]string{
	"tool":          "Its tool %s is offered to agents.",
	"service":       "Its service %s runs in the background.",
	"gatewayMethod": "Its gateway method %s can be called by clients of the agent host.",
	"httpRoute":     "It answers HTTP requests to %s.",
	"command":       "Its command %s can be used in chats.",
	"cli":           "Its command %s can be run from the command line.",
	"channel":       "It connects the channel %s.",
	"provider":      "It provides models as %s.",
}

func explainRegistration(target string) string {
	kind, name, _ := strings.Cut(target, ":")
	name = "“" + name + "”"
	if format, ok := registrations[kind]; ok {
		return fmt.Sprintf(format, name)
	}
	return fmt.Sprintf("It registers the %s %s.", kind, name)
}
