package cli

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/ocmt/ocmt/orchestrator/api/apitest"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

func TestNetworkLog(t *testing.T) {
	d := newDaemon(t)
	out, _ := d.ocmt(t, 0, "network", "log")
	want := `TIME                     PLUGIN  WHAT     DESTINATION                         DETAILS
2026-01-02 03:04:05 UTC  demo    allowed  api.example.com:443                 by *.example.com:443; at 203.0.113.7:443
2026-01-02 03:04:06 UTC  demo    request  POST api.example.com:443/v1/search  with EXAMPLE_KEY
2026-01-02 03:04:07 UTC  demo    closed   api.example.com:443                 1.2 KiB up, 5.0 MiB down in 1.5s
2026-01-02 03:04:08 UTC  demo    denied   evil.example\u001b[2J               no rule names it (not_granted); to grant it: ocmt plugins grant demo network evil.example:443
2026-01-02 03:04:09 UTC  demo    denied   -                                   too many connections (rate); 12 times
`
	if out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	out, _ = d.ocmt(t, 0, "network", "log", "-A", "metrics")
	contains(t, out, "TENANT  TIME", "acme    2026-01-02 03:04:10 UTC  metrics  denied  169.254.169.254:80  not_granted\n")
	if out, _ = d.ocmt(t, 0, "network", "log", "@scope/demo", "--denied", "--tail", "1"); strings.Count(out, "\n") != 2 || !strings.Contains(out, "12 times") {
		t.Errorf("got\n%s", out)
	}
	out, _ = d.ocmt(t, 0, "network", "log", "--since", "2026-01-02T03:04:08Z", "--json")
	var c v1.Connection
	if err := json.Unmarshal([]byte(out), &c); err != nil || c.Count != 12 {
		t.Errorf("got %s, %v", out, err)
	}
	if out, _ = d.ocmt(t, 0, "network", "log", "--tenant", "nobody"); out != "no connections\n" {
		t.Errorf("got %q", out)
	}
	for args, want := range map[string]string{
		"log --tail 0": "--tail 0 is not between 1 and 5000", "log --tail 5001": "is not between", "log --since soon": "--since", "log a b": "too many",
	} {
		_, errout := d.ocmt(t, 2, append([]string{"network"}, strings.Fields(args)...)...)
		contains(t, errout, want)
	}
	d.ocmt(t, 3, "network", "log", "nope")
}

// What is in the log and is told of as an event too is printed once.
func TestNetworkLogFollow(t *testing.T) {
	d := newDaemon(t)
	ctx, interrupt := context.WithCancel(t.Context())
	var c command
	begun, ended, code := c.stdout.saw("12 times"), make(chan struct{}), make(chan int)
	go func() { code <- c.run(ctx, d, "network", "log", "@scope/demo", "-f", "--denied") }()
	<-begun
	known := v1.Connection{Time: apitest.Epoch.Add(3 * time.Second), Phase: v1.PhaseDenied, Host: "evil.example\x1b[2J", Code: "not_granted", Detail: "no rule names it", Command: "x"}
	d.backend.Connect(known)
	d.backend.Connect(known)
	d.backend.Connect(v1.Connection{Phase: v1.PhaseOpen, Host: "api.example.com", Port: 443, Allowed: true})
	d.backend.Connect(v1.Connection{Phase: v1.PhaseClose, Host: "slow.example", Port: 443, Allowed: true, Code: "idle"})
	go func() { <-c.stdout.saw("slow.example"); close(ended) }()
	<-ended
	interrupt()
	if got := <-code; got != 0 {
		t.Errorf("exit code %d: %s", got, c.stderr.String())
	}
	out := c.stdout.String()
	contains(t, out, "2026-01-02 03:04:05 UTC  demo  cut off  slow.example:443  idle; 0 B up, 0 B down in 0s\n")
	if n := strings.Count(out, "denied  evil.example"); n != 2 || strings.Contains(out, "api.example.com") || strings.Contains(out, "\x1b") {
		t.Errorf("%d lines of evil.example, want that of the log and the second event:\n%s", n, out)
	}
}

func TestConnectionDetail(t *testing.T) {
	for want, c := range map[string]v1.Connection{
		"":                         {Phase: v1.PhaseOpen, Allowed: true},
		"status 403; with A, B":    {Phase: v1.PhaseRequest, Allowed: true, Status: 403, Secrets: []string{"A", "B"}},
		"request_refused":          {Phase: v1.PhaseRequest, Code: "request_refused"},
		"3 B up, 0 B down in 20ms": {Phase: v1.PhaseClose, Allowed: true, BytesUp: 3, DurationMillis: 20},
		"too slow (idle); 0 B up, 0 B down in 0s": {Phase: v1.PhaseClose, Code: "idle", Detail: "too slow"},
	} {
		if got := connectionDetail(c); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for want, c := range map[string]v1.Connection{
		"allowed": {Phase: v1.PhaseOpen, Allowed: true}, "closed": {Phase: v1.PhaseClose, Allowed: true}, "request": {Phase: v1.PhaseRequest, Allowed: true},
		"denied": {Phase: v1.PhaseRequest}, "cut off": {Phase: v1.PhaseClose},
	} {
		if got := verdict(c); got != want {
			t.Errorf("%+v: got %q, want %q", c, got, want)
		}
	}
}
