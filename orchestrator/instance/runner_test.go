package instance_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/ocmt/ocmt/bus/subject"
	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/sandbox"
)

// runner plays the untrusted side in this process: it speaks the bus's
// protocol over the socket that the container would have.
type runner struct {
	conn net.Conn
	id   subject.Identity
	in   *bufio.Reader
	load []byte        // the answer to hello
	gone chan struct{} // closed when the host has hung up

	mu      sync.Mutex
	answers map[string]chan []byte // by inbox
	handle  map[string]func(data []byte) any
}

// dial connects to the socket in the spec's mounts, as whom its environment
// says it is.
func dial(spec sandbox.Spec, handle map[string]func([]byte) any) (*runner, error) {
	env := map[string]string{}
	for _, kv := range spec.Env {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	generation, err := strconv.ParseUint(env["OCMT_GENERATION"], 10, 64)
	if err != nil {
		return nil, err
	}
	conn, err := net.Dial("unix", filepath.Join(source(spec, "/run/ocmt"), "bus.sock"))
	if err != nil {
		return nil, err
	}
	r := &runner{
		conn: conn, in: bufio.NewReader(conn), answers: map[string]chan []byte{}, handle: handle, gone: make(chan struct{}),
		id: subject.Identity{Tenant: env["OCMT_TENANT"], Plugin: env["OCMT_PLUGIN"], Generation: generation},
	}
	var setup strings.Builder
	setup.WriteString("CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true,\"protocol\":1}\r\n")
	sid := 0
	for verb := range handle {
		sid++
		fmt.Fprintf(&setup, "SUB %s %d\r\n", subject.In(r.id, verb), sid)
	}
	fmt.Fprintf(&setup, "SUB %s.* %d\r\n", subject.RunnerInbox(r.id), sid+1)
	if _, err := io.WriteString(conn, setup.String()); err != nil {
		return nil, err
	}
	go r.read()
	return r, nil
}

// source returns the host's path of what is mounted at target.
func source(spec sandbox.Spec, target string) string {
	for _, m := range spec.Mounts {
		if m.Target == target {
			return m.Source
		}
	}
	return ""
}

func (r *runner) read() {
	defer close(r.gone)
	for {
		line, err := r.in.ReadString('\n')
		if err != nil {
			return
		}
		f := strings.Fields(line)
		switch {
		case len(f) > 0 && f[0] == "PING":
			r.write("PONG\r\n")
		case len(f) > 3 && f[0] == "MSG":
			r.message(f)
		}
	}
}

func (r *runner) message(f []string) {
	size, _ := strconv.Atoi(f[len(f)-1])
	data := make([]byte, size+2)
	if _, err := io.ReadFull(r.in, data); err != nil {
		return
	}
	data = data[:size]
	r.mu.Lock()
	answer := r.answers[f[1]]
	r.mu.Unlock()
	if answer != nil {
		answer <- data
		return
	}
	verb := f[1][strings.LastIndexByte(f[1], '.')+1:]
	if handle := r.handle[verb]; handle != nil {
		go func() {
			if reply := handle(data); reply != nil && len(f) == 5 {
				r.publish(f[3], "", reply)
			}
		}()
	}
}

func (r *runner) write(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, _ = io.WriteString(r.conn, s) // a host that hung up ends the test otherwise
}

// publish sends a message as JSON, or a string as it is.
func (r *runner) publish(subj, reply string, msg any) {
	text, ok := msg.(string)
	if !ok {
		data, err := json.Marshal(msg)
		if err != nil {
			panic(err)
		}
		text = string(data)
	}
	r.write(fmt.Sprintf("PUB %s %s %d\r\n%s\r\n", subj, reply, len(text), text))
}

// request sends a message under verb and returns the answer, or nil when ctx
// ends first.
func (r *runner) request(ctx context.Context, verb string, msg any) []byte {
	r.mu.Lock()
	inbox := subject.RunnerInbox(r.id) + "." + strconv.Itoa(len(r.answers))
	answer := make(chan []byte, 1)
	r.answers[inbox] = answer
	r.mu.Unlock()
	r.publish(subject.Out(r.id, verb), inbox, msg)
	select {
	case data := <-answer:
		return data
	case <-ctx.Done():
		return nil
	}
}

// hello is the first message of a runner of this version.
func hello() wire.Hello {
	return wire.Hello{Type: wire.TypeHello, Wire: []int{wire.Version}, Runner: "test", Node: "v24", PID: 7}
}

// readyWith is a ready message with one tool.
func readyWith(tool string) wire.Ready {
	return wire.Ready{Type: wire.TypeReady, Diagnostics: []wire.Diagnostic{}, Registrations: []wire.Registration{{
		Kind: "tool", Name: tool, Form: "export", Spec: json.RawMessage(`{"description":"","parameters":{"type":"object"}}`),
	}}}
}
