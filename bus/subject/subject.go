// Package subject builds every subject of the bus and derives every
// permission from the same functions. No other package spells a subject.
//
//	ocmt.v1.<tenant>.<plugin>.<generation>.in.<verb>    host   -> runner
//	ocmt.v1.<tenant>.<plugin>.<generation>.out.<verb>   runner -> host
//	ocmt.v1.<tenant>.<plugin>.<generation>.reply.<id>   runner -> host, answers
//	ocmt.v1.<tenant>.<plugin>.<generation>.in.reply.<id> host  -> runner, answers
//
// A runner may publish to its own out and reply subjects and subscribe to its
// own in subjects, and nothing else; the host's identity in the plugin's
// account has the mirror image. A reply subject that a runner forges
// therefore lies outside what the host may publish to, and the server refuses
// it.
package subject

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// Verbs from the host to the runner.
const (
	Tool   = "tool"   // request: wire.ToolCall
	Cancel = "cancel" // publish: wire.Cancel
	Ping   = "ping"   // request: wire.Ping
	Stop   = "stop"   // request: wire.Stop

	Hook     = "hook"     // request: wire.HookCall
	Service  = "service"  // request: wire.ServiceCall
	Resolved = "resolved" // publish: wire.Resolved
)

// Verbs from the runner to the host.
const (
	Hello    = "hello"    // request: wire.Hello, answered by wire.Load
	Ready    = "ready"    // request: wire.Ready, answered by wire.Ack
	Failed   = "failed"   // request: wire.Failed, answered by wire.Ack
	Progress = "progress" // publish: wire.Progress

	Health = "health" // publish: wire.ServiceHealth
	Host   = "host"   // request: wire.HostCall, answered by wire.HostResult
)

const root = "ocmt.v1."

// Identity names one generation of one plugin of one tenant.
type Identity struct {
	Tenant     string
	Plugin     string
	Generation uint64
}

// Permissions are the only subjects that a connection may use.
type Permissions struct {
	Publish   []string
	Subscribe []string
}

// In is the subject on which the runner takes verb from the host.
func In(id Identity, verb string) string { return base(id) + ".in." + Token(verb) }

// Out is the subject on which the host takes verb from the runner.
func Out(id Identity, verb string) string { return base(id) + ".out." + Token(verb) }

// Reply is the subject on which the host takes the answer to its request of
// that number.
func Reply(id Identity, request uint64) string {
	return HostInbox(id) + "." + strconv.FormatUint(request, 36)
}

// ReplyNumber returns the number of the request that a subject made by
// [Reply] answers.
func ReplyNumber(id Identity, subject string) (uint64, bool) {
	text, ok := strings.CutPrefix(subject, HostInbox(id)+".")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 36, 64)
	return n, err == nil
}

// HostInbox is the prefix of the subjects on which the host takes answers.
func HostInbox(id Identity) string { return base(id) + ".reply" }

// RunnerInbox is the prefix of the subjects on which the runner takes answers.
func RunnerInbox(id Identity) string { return base(id) + ".in.reply" }

// InRunnerInbox tells whether a reply subject that the runner asked for is its
// own to receive on. An honest runner asks for no other.
func InRunnerInbox(id Identity, reply string) bool {
	rest, ok := strings.CutPrefix(reply, RunnerInbox(id)+".")
	return ok && rest != "" && !strings.ContainsAny(rest, "*> \t\r\n")
}

// RunnerPermissions is all that the runner may do.
func RunnerPermissions(id Identity) Permissions {
	return Permissions{
		Publish:   []string{base(id) + ".out.>", HostInbox(id) + ".>"},
		Subscribe: []string{base(id) + ".in.>"},
	}
}

// HostPermissions is all that the host may do in the plugin's account.
func HostPermissions(id Identity) Permissions {
	runner := RunnerPermissions(id)
	return Permissions{Publish: runner.Subscribe, Subscribe: runner.Publish}
}

// Account is the name of the account of a plugin, the same for all its
// generations.
func Account(id Identity) string { return Token(id.Tenant) + "." + Token(id.Plugin) }

func base(id Identity) string {
	return root + Account(id) + "." + strconv.FormatUint(id.Generation, 10)
}

const upperHex = "0123456789ABCDEF"

// Token encodes name as one token of a subject: [A-Za-z0-9_-] stay, every
// other byte is "=" and two upper-case hexadecimal digits, and the empty name
// is "=". Different names have different tokens.
func Token(name string) string {
	if name == "" {
		return "="
	}
	var b strings.Builder
	b.Grow(len(name))
	for i := range len(name) {
		if c := name[i]; plain(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('=')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
		}
	}
	return b.String()
}

// Name decodes a token. A token that [Token] does not make is
// InvalidArgument.
func Name(token string) (string, error) {
	if token == "=" {
		return "", nil
	}
	var b strings.Builder
	for i := 0; i < len(token); i++ {
		c := token[i]
		if c == '=' && i+2 < len(token) {
			hi, lo := strings.IndexByte(upperHex, token[i+1]), strings.IndexByte(upperHex, token[i+2])
			if hi < 0 || lo < 0 || plain(byte(hi<<4|lo)) {
				return "", badToken(token)
			}
			c = byte(hi<<4 | lo)
			i += 2
		} else if !plain(c) {
			return "", badToken(token)
		}
		b.WriteByte(c)
	}
	if b.Len() == 0 {
		return "", badToken(token)
	}
	return b.String(), nil
}

func badToken(token string) error {
	return fmt.Errorf("cannot decode subject token %.64q: %w", token, errdefs.ErrInvalidArgument)
}

func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}
