// Command runner is a runner for tests of real containers: it speaks the bus's
// protocol, and connects again whenever its host goes away. Its tool "count"
// says how often it has said hello, "hang" never answers.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ocmt/ocmt/bus/subject"
	"github.com/ocmt/ocmt/bus/wire"
)

func main() {
	generation, err := strconv.ParseUint(os.Getenv("OCMT_GENERATION"), 10, 64)
	if err != nil {
		fmt.Fprintln(os.Stderr, "runner:", err)
		os.Exit(2)
	}
	id := subject.Identity{Tenant: os.Getenv("OCMT_TENANT"), Plugin: os.Getenv("OCMT_PLUGIN"), Generation: generation}
	for hellos := 1; ; {
		if conn, err := net.Dial("unix", os.Getenv("OCMT_BUS")); err == nil {
			s := session{conn: conn, id: id, hellos: hellos}
			s.run()
			conn.Close()
			hellos++
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// session is one connection.
type session struct {
	conn   net.Conn
	id     subject.Identity
	hellos int
}

const (
	helloInbox = "hello"
	readyInbox = "ready"
)

func (s *session) run() {
	fmt.Fprintf(s.conn, "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true,\"protocol\":1}\r\n"+
		"SUB %s 1\r\nSUB %s.* 2\r\n", subject.In(s.id, subject.Tool), subject.RunnerInbox(s.id))
	s.hello()
	in := bufio.NewReader(s.conn)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		switch f[0] {
		case "PING":
			fmt.Fprint(s.conn, "PONG\r\n")
		case "MSG", "HMSG":
			size, _ := strconv.Atoi(f[len(f)-1])
			data := make([]byte, size+2)
			if _, err := io.ReadFull(in, data); err != nil {
				return
			}
			s.take(f, data[:size])
		}
	}
}

func (s *session) hello() {
	s.publish(subject.Out(s.id, subject.Hello), subject.RunnerInbox(s.id)+"."+helloInbox,
		wire.Hello{Type: wire.TypeHello, Wire: []int{wire.Version}, Runner: "test", Node: "v24", PID: os.Getpid()})
}

func (s *session) take(f []string, data []byte) {
	switch subj := f[1]; {
	case f[0] == "HMSG": // nobody listens to hello yet
		time.Sleep(5 * time.Millisecond)
		s.hello()
	case strings.HasSuffix(subj, "."+helloInbox):
		s.publish(subject.Out(s.id, subject.Ready), subject.RunnerInbox(s.id)+"."+readyInbox, wire.Ready{
			Type: wire.TypeReady, Diagnostics: []wire.Diagnostic{}, Registrations: []wire.Registration{{
				Kind: "tool", Name: "count", Form: "export", Spec: json.RawMessage(`{"description":"","parameters":{"type":"object"}}`),
			}},
		})
	case subj == subject.In(s.id, subject.Tool) && len(f) == 5:
		var call wire.ToolCall
		if json.Unmarshal(data, &call) == nil && call.Tool == "count" {
			s.publish(f[3], "", wire.ToolResult{Type: wire.TypeToolResult, ID: call.ID, Result: json.RawMessage(strconv.Itoa(s.hellos))})
		}
	}
}

func (s *session) publish(subj, reply string, msg any) {
	data, err := json.Marshal(msg)
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(s.conn, "PUB %s %s %d\r\n%s\r\n", subj, reply, len(data), data)
}
