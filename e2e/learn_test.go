package e2e

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"

	"github.com/ocmt/ocmt/e2e/harness"
)

// nameServer answers every question with one address.
type nameServer struct {
	net.PacketConn
	address [4]byte

	mu    sync.Mutex
	names []string
}

// newNameServer answers with an address that may not be reached: nothing leaves
// the machine.
func newNameServer(t *testing.T) *nameServer {
	t.Helper()
	return nameServerOf(t, [4]byte{203, 0, 113, 9})
}

func nameServerOf(t *testing.T, address [4]byte) *nameServer {
	t.Helper()
	conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{PacketConn: conn, address: address}
	t.Cleanup(func() { _ = conn.Close() })
	go s.serve()
	return s
}

func (s *nameServer) serve() {
	buf := make([]byte, 512)
	for {
		n, from, err := s.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		q := m.Questions[0]
		s.mu.Lock()
		s.names = append(s.names, strings.TrimSuffix(q.Name.String(), "."))
		s.mu.Unlock()
		m.Response, m.Additionals = true, nil
		if q.Type == dnsmessage.TypeA {
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
				Body:   &dnsmessage.AResource{A: s.address},
			}}
		}
		if answer, err := m.Pack(); err == nil {
			_, _ = s.WriteTo(answer, from)
		}
	}
}

func (s *nameServer) asked(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.names, name)
}

// TestAllowOnce allows a destination until the plugin's instance ends.
func TestAllowOnce(t *testing.T) {
	names := newNameServer(t)
	d := start(t, "--resolver", names.LocalAddr().String())
	c := connect(t, d)
	install(t, d, keyed)
	const name = "api.once.example"
	if got := requestFrom(t, c, "https://"+name+"/", nil); got.Error != "ENOTFOUND" {
		t.Fatalf("before: %+v", got)
	}
	id := requestID(t, c, name+":443")
	run(t, d, 0, []string{"allowed for this run"}, "approvals", "approve", "--once", id)
	run(t, d, 0, []string{name, "run"}, "plugins", "permissions", keyed)
	if got := requestFrom(t, c, "https://"+name+"/", nil); got.Error == "" || got.Error == "ENOTFOUND" {
		t.Errorf("allowed: %+v, want the name to be known and its address to be refused", got)
	}
	if !names.asked(name) {
		t.Error("the name server was not asked")
	}
	run(t, d, 0, []string{"address_refused"}, "network", "log", keyed, "--denied")
	run(t, d, 0, nil, "plugins", "restart", keyed)
	if got := requestFrom(t, c, "https://"+name+"/", nil); got.Error != "ENOTFOUND" {
		t.Errorf("in the next run: %+v", got)
	}
	if requestID(t, c, name+":443") != id {
		t.Error("it waits for an answer under another id")
	}
	run(t, d, 0, []string{"ocmt: network: " + name, "ocmt plugins grant keyed network " + name + ":443"}, "plugins", "logs", keyed)
}

// requestID returns the id of the request for a destination.
func requestID(t *testing.T, c *client.Client, target string) string {
	t.Helper()
	list, err := c.Approvals(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if strings.Contains(a.Target, target) && slices.Equal(a.Decisions, []string{v1.AllowOnce, v1.AllowAlways, v1.Deny}) {
			return a.ID
		}
	}
	t.Fatalf("no request for %s that can be allowed for one run in %+v", target, list)
	return ""
}

// TestLearn watches a plugin that is granted nothing, and grants it what it
// wished for.
func TestLearn(t *testing.T) {
	names := newNameServer(t)
	d := start(t, "--resolver", names.LocalAddr().String())
	c := connect(t, d)
	install(t, d, keyed)
	file := filepath.Join(t.TempDir(), "manifest.json")
	done := make(chan harness.Result, 1)
	go func() {
		done <- d.Run(context.WithoutCancel(t.Context()), "plugins", "learn", keyed, "--for", "1m", "--output", file)
	}()
	eventually(t, 20*time.Second, "learn mode", func() bool {
		l, err := c.Learning(t.Context(), tenant, keyed)
		return err == nil && l.On && getInfo(t, d, keyed).State == "running"
	})
	if got := requestFrom(t, c, "https://api.wished.example:8443/x", nil); got.Error != "ENOTFOUND" {
		t.Errorf("what is not granted stays denied: %+v", got)
	}
	for _, name := range []string{"WISHED_REGION", "WISHED_API_KEY"} {
		if got := holds(t, c, name); got != "" {
			t.Errorf("%s is %q", name, got)
		}
	}
	eventually(t, 10*time.Second, "all wishes", func() bool {
		l, err := c.Learning(t.Context(), tenant, keyed)
		return err == nil && len(l.Wishes) >= 3
	})
	run(t, d, 0, nil, "plugins", "learn", keyed, "--stop")
	if res := <-done; res.Code != 0 || !strings.Contains(string(res.Stdout)+string(res.Stderr), "--manifest") {
		t.Errorf("learning: %d: %s%s", res.Code, res.Stdout, res.Stderr)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Network []struct {
			Host  string
			Ports []int
		}
		Env, Secrets []string
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if len(got.Network) != 1 || got.Network[0].Host != "api.wished.example" || !slices.Equal(got.Network[0].Ports, []int{8443}) ||
		!slices.Equal(got.Env, []string{"WISHED_REGION"}) || !slices.Contains(got.Secrets, "WISHED_API_KEY") {
		t.Errorf("the manifest is %s", text)
	}
	run(t, d, 0, []string{"api.wished.example on port 8443"}, "plugins", "grant", keyed, "--manifest", file, "--yes")
	if got := requestFrom(t, c, "https://api.wished.example:8443/x", nil); got.Error == "ENOTFOUND" || !names.asked("api.wished.example") {
		t.Errorf("granted: %+v", got)
	}
	if l, err := c.Learning(t.Context(), tenant, keyed); err != nil || l.On {
		t.Errorf("learn mode is on after its end: %+v, %v", l, err)
	}
}
