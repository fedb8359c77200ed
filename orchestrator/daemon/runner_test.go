package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ocmt/ocmt/bus/subject"
	"github.com/ocmt/ocmt/sandbox"
)

// runner plays the untrusted side in this process: it speaks the bus's
// protocol over the socket that the container would have.
type runner struct {
	conn net.Conn
	dir  string // of the sockets
	id   subject.Identity

	lost context.CancelCauseFunc // called with errHungUp when the host is gone

	mu      sync.Mutex
	answers map[string]chan []byte // by inbox
	handle  map[string]func(data []byte) any
}

var errHungUp = errors.New("the host hung up")

// dialRunner connects to the socket in the spec's mounts, as whom its
// environment says it is.
func dialRunner(spec sandbox.Spec) (*runner, error) {
	env := map[string]string{}
	for _, kv := range spec.Env {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	generation, err := strconv.ParseUint(env["OCMT_GENERATION"], 10, 64)
	if err != nil {
		return nil, err
	}
	dir := ""
	for _, m := range spec.Mounts {
		if m.Target == "/run/ocmt" {
			dir = m.Source
		}
	}
	conn, err := net.Dial("unix", filepath.Join(dir, "bus.sock"))
	if err != nil {
		return nil, err
	}
	return &runner{
		conn: conn, dir: dir, answers: map[string]chan []byte{},
		id: subject.Identity{Tenant: env["OCMT_TENANT"], Plugin: env["OCMT_PLUGIN"], Generation: generation},
	}, nil
}

// serve subscribes to the verbs and to the answers.
func (r *runner) serve(handle map[string]func([]byte) any) {
	r.handle = handle
	var setup strings.Builder
	setup.WriteString("CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true,\"protocol\":1}\r\n")
	sid := 0
	for verb := range handle {
		sid++
		fmt.Fprintf(&setup, "SUB %s %d\r\n", subject.In(r.id, verb), sid)
	}
	fmt.Fprintf(&setup, "SUB %s.* %d\r\n", subject.RunnerInbox(r.id), sid+1)
	r.write(setup.String())
	go r.read(bufio.NewReader(r.conn))
}

func (r *runner) read(in *bufio.Reader) {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			r.lost(errHungUp)
			return
		}
		f := strings.Fields(line)
		switch {
		case len(f) > 0 && f[0] == "PING":
			r.write("PONG\r\n")
		case len(f) > 3 && f[0] == "MSG":
			size, _ := strconv.Atoi(f[len(f)-1])
			data := make([]byte, size+2)
			if _, err := io.ReadFull(in, data); err != nil {
				return
			}
			r.message(f, data[:size])
		}
	}
}

func (r *runner) message(f []string, data []byte) {
	r.mu.Lock()
	answer := r.answers[f[1]]
	r.mu.Unlock()
	if answer != nil {
		select {
		case answer <- data:
		default: // it was asked twice
		}
		return
	}
	if handle := r.handle[f[1][strings.LastIndexByte(f[1], '.')+1:]]; handle != nil {
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

// publish sends a message as JSON.
func (r *runner) publish(subj, reply string, msg any) {
	data, err := json.Marshal(msg)
	if err != nil {
		panic(err)
	}
	r.write(fmt.Sprintf("PUB %s %s %d\r\n%s\r\n", subj, reply, len(data), data))
}

// request sends a message under verb, again and again as long as nobody
// listens, and returns the answer, or nil when ctx ends first.
func (r *runner) request(ctx context.Context, verb string, msg any) []byte {
	r.mu.Lock()
	inbox := subject.RunnerInbox(r.id) + "." + strconv.Itoa(len(r.answers))
	answer := make(chan []byte, 1)
	r.answers[inbox] = answer
	r.mu.Unlock()
	for {
		r.publish(subject.Out(r.id, verb), inbox, msg)
		select {
		case data := <-answer:
			return data
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil
		}
	}
}
