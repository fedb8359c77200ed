package cli

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

func TestHooksList(t *testing.T) {
	d := newDaemon(t)
	out, _ := d.ocmt(t, 0, "hooks", "list")
	want := `EVENT                 ORDER  KIND     PLUGIN  PRIORITY  RIGHTS                NOTE
agent:message:before  1      modify   demo    0         observe,modify
before_tool_call      1      gate     demo    10        observe,modify,block
llm_output            1      observe  demo    0         not granted           asks for observe
`
	if out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	if out, _ = d.ocmt(t, 0, "hooks", "list", "-A"); !strings.HasPrefix(out, "TENANT   EVENT") {
		t.Errorf("got\n%s", out)
	}
	if out, _ = d.ocmt(t, 0, "hooks", "list", "--tenant", "acme"); out != "there are no hooks\n" {
		t.Errorf("got %q", out)
	}
	out, _ = d.ocmt(t, 0, "hooks", "list", "--json")
	var list []v1.Hook
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 3 || list[0].Event != "before_tool_call" {
		t.Errorf("got %+v, %v", list, err)
	}
}

// Hooks of one event are numbered in the order in which they run.
func TestHooksOrder(t *testing.T) {
	d := newDaemon(t)
	parts := d.backend.Parts()
	hook := func(tenant, plugin, event string) v1.Hook {
		return v1.Hook{Tenant: tenant, Plugin: plugin, Event: event, Kind: "gate", Rights: []string{"block"}}
	}
	list := []v1.Hook{hook("a", "x", "two"), hook("b", "x", "two"), hook("a", "y", "one"), hook("a", "z", "two")}
	list[3].CutOff, list[2].Kind, list[1].Asks = true, "unknown", []string{"modify", "block"}
	parts.Hooks = hookList{parts.Hooks, list}
	d.socket += "2"
	d.serve(t, parts)
	out, _ := d.ocmt(t, 0, "hooks", "list", "-A")
	want := `TENANT  EVENT  ORDER  KIND     PLUGIN  PRIORITY  RIGHTS  NOTE
a       one    1      unknown  y       0         block   no host sends this event
a       two    1      gate     x       0         block
a       two    2      gate     z       0         block   cut off
b       two    1      gate     x       0         block   asks for modify
`
	if out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
}

func TestHooksEmit(t *testing.T) {
	d := newDaemon(t)
	out, errout := d.ocmt(t, 0, "hooks", "emit", "agent:message:before", "--payload", `{"text":"hi"}`)
	contains(t, out, "Outcome  pass\n", "Payload:\n  {\n    \"text\": \"hi!\"\n  }\n", "Changes:\n  demo: /text \"hi\" -> \"hi!\"\n", "  demo    6        ok      0.5\n")
	if errout != "" {
		t.Errorf("standard error: %s", errout)
	}

	// Blocked: the result is printed also then.
	out, errout = d.ocmt(t, 4, "hooks", "emit", "before_tool_call", "--payload", `{"toolName":"forbidden"}`)
	contains(t, out, "Outcome     block\n", "Blocked by  demo\n", "Reason      not today\n", "demo    5        block   1.5  not today\n")
	if want := "ocmt: demo blocked before_tool_call: not today\n"; errout != want {
		t.Errorf("got %q, want %q", errout, want)
	}
	out, _ = d.ocmt(t, 4, "hooks", "emit", "before_tool_call", "--payload", `{"toolName":"forbidden"}`, "--json")
	var result v1.EmitResult
	if err := json.Unmarshal([]byte(out), &result); err != nil || result.Outcome != v1.OutcomeBlock {
		t.Errorf("got %s, %v", out, err)
	}

	out, _ = d.ocmt(t, 0, "hooks", "emit", "gateway_start")
	contains(t, out, "Payload:\n  {}\n", "No hook is on this event.\n")
	_, errout = d.ocmt(t, 2, "hooks", "emit", "gateway_start", "--timeout", "11m")
	contains(t, errout, "--timeout 11m0s is not between")
}

func TestHooksEmitPayload(t *testing.T) {
	d := newDaemon(t)
	file := filepath.Join(t.TempDir(), "payload.json")
	if err := os.WriteFile(file, []byte(`{"text":"from a file"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	const event = "agent:message:before"
	out, _ := d.ocmt(t, 0, "hooks", "emit", event, "--payload", "@"+file)
	contains(t, out, `"from a file!"`)
	stdin := &command{stdin: strings.NewReader(`{"text":"from standard input"}`)}
	out, _ = d.ocmtWith(t, stdin, 0, "hooks", "emit", event, "--payload", "-")
	contains(t, out, `"from standard input!"`)
	for payload, want := range map[string]string{
		"{\"a\":\n b}":      "the payload is no JSON: line 2, column 2: ",
		`[1]`:               "the payload is no JSON object\n  hint: for example: --payload ",
		`null`:              "the payload is no JSON object",
		``:                  "the payload is no JSON: line 1, column 1: ",
		`{} {}`:             "the payload is no JSON",
		"@" + file + ".not": "cannot read the payload: ",
	} {
		code := 2
		if strings.HasPrefix(payload, "@") {
			code = 3
		}
		_, errout := d.ocmt(t, code, "hooks", "emit", event, "--payload", payload)
		contains(t, errout, want)
	}
}

func TestBlocked(t *testing.T) {
	for want, by := range map[string]*v1.HookBlock{
		"a hook blocked e":            nil,
		"p blocked e":                 {Plugin: "p"},
		"p blocked e: no":             {Plugin: "p", Reason: "no"},
		"p failed as a gate of e: up": {Plugin: "p", Reason: "up", Failed: true},
	} {
		err := blocked(v1.EmitResult{Event: "e", BlockedBy: by})
		if err.Error() != want || exitCode(err) != 4 {
			t.Errorf("got %q, exit code %d, want %q", err, exitCode(err), want)
		}
	}
}

func TestServices(t *testing.T) {
	d := newDaemon(t)
	out, _ := d.ocmt(t, 0, "services", "list")
	want := `PLUGIN  SERVICE  STATE    SINCE                    RESTARTS  NOTE
demo    ticker   running  2026-01-02 03:04:05 UTC  0
demo    poller   backoff  2026-01-02 03:04:05 UTC  3         connection refused; tried again at 2026-01-02 03:05:05 UTC
`
	if out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	if out, _ = d.ocmt(t, 0, "services", "stop", "@scope/demo", "ticker"); out != "ticker of demo is stopped\n" {
		t.Errorf("got %q", out)
	}
	out, _ = d.ocmt(t, 0, "services", "list", "-A")
	contains(t, out, "TENANT   PLUGIN", "a person stopped it")
	if out, _ = d.ocmt(t, 0, "services", "restart", "demo", "ticker"); out != "ticker of demo is running\n" {
		t.Errorf("got %q", out)
	}
	_, errout := d.ocmt(t, 5, "services", "start", "demo", "poller")
	contains(t, errout, "did not start: connection refused")
	d.ocmt(t, 3, "services", "start", "demo", "nope")
	d.ocmt(t, 3, "services", "start", "nope", "ticker")
	if out, _ = d.ocmt(t, 0, "services", "list", "--tenant", "acme"); out != "there are no services\n" {
		t.Errorf("got %q", out)
	}
}

func TestPermissions(t *testing.T) {
	d := newDaemon(t)
	out, _ := d.ocmt(t, 0, "plugins", "permissions", "demo")
	want := `Granted to demo:
  - see every tool call, change it and stop it
      hook before_tool_call modify,block, since 2026-01-02 03:04:05 UTC by uid:1000 (review)

Asked for and not granted:
  - connect to api.example.net, port 443
      ocmt plugins grant demo network api.example.net:443
`
	if out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	out, _ = d.ocmt(t, 0, "plugins", "permissions", "demo", "--json")
	var p v1.PluginPermissions
	if err := json.Unmarshal([]byte(out), &p); err != nil || len(p.Granted) != 1 || len(p.Pending) != 1 {
		t.Errorf("got %s, %v", out, err)
	}
	if out, _ = d.ocmt(t, 0, "plugins", "permissions", "metrics", "--tenant", "acme"); out != "Nothing is granted to metrics.\n" {
		t.Errorf("got %q", out)
	}
	d.ocmt(t, 3, "plugins", "permissions", "nope")
}

func TestPrintPermissions(t *testing.T) {
	until := at.AddDate(0, 0, 1)
	var b strings.Builder
	printPermissions(&b, v1.PluginPermissions{
		Plugin:   "p",
		Granted:  []v1.Permission{{Kind: "workspace", Target: "/srv", Value: "ro", Sentence: "It may read everything in the directory /srv.", ExpiresAt: &until}},
		Narrowed: []v1.Permission{{Kind: "env", Target: "TZ", Sentence: "It may read TZ.", Actor: "uid:1"}},
		Pending:  []v1.Permission{{Kind: "secret", Target: "KEY", Sentence: "It may use KEY."}},
		Problems: []string{"network[0].host has a scheme"},
	})
	want := `Granted to p:
  - It may read everything in the directory /srv.
      workspace ro /srv, until 2026-01-03 03:04:05 UTC

Granted, but switched off by config.json:
  - It may read TZ.
      env TZ by uid:1

Asked for and not granted:
  - It may use KEY.
      secret KEY

Parts of its manifest that cannot be used:
  - network[0].host has a scheme
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestGrant(t *testing.T) {
	d := newDaemon(t)
	out, _ := d.ocmt(t, 0, "plugins", "grant", "demo", "network", "api.example.com:443", "--for", "1h")
	want := `Granted to demo: network api.example.com:443
  use the network api.example.com:443
  In force now until 2026-01-02 04:04:05 UTC; that took no restart.
`
	if out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	t.Chdir(t.TempDir())
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	out, _ = d.ocmt(t, 0, "plugins", "grant", "@scope/demo", "workspace", "rw", "./a/../b")
	contains(t, out, "Granted to @scope/demo: workspace rw "+wd+"/b\n", "In force now; the plugin was restarted for it.\n")
	for words, want := range map[string]string{
		"rules.example.com:443|rules=GET /v1/*|POST /v1/a,b":                                "rules=GET /v1/* POST /v1/a,b",
		"rules.example.com:443|--rule|GET /v1/*|--rule|POST /v1/x":                          "rules=GET /v1/* POST /v1/x",
		"rules.example.com:80|plaintext, rules=GET /rules=1,2":                              "plaintext,rules=GET /rules=1,2",
		"rules.example.com:80|plaintext,addresses=10.0.0.0/8,rules=GET /v1/*|--rule|HEAD /": "plaintext,addresses=10.0.0.0/8,rules=GET /v1/* HEAD /",
	} {
		out, _ = d.ocmt(t, 0, append([]string{"plugins", "grant", "demo", "network"}, strings.Split(words, "|")...)...)
		contains(t, out, " "+want+"\n")
	}
	out, _ = d.ocmt(t, 0, "plugins", "grant", "demo", "resource", "state", "512MiB")
	contains(t, out, "resource state 512MiB\n")
	out, _ = d.ocmt(t, 0, "plugins", "grant", "demo", "network", "localhost:80", "--addresses", "127.0.0.1/32,::1/128", "--plaintext")
	contains(t, out, "network localhost:80 plaintext,addresses=127.0.0.1/32 ::1/128\n")

	for words, unused := range map[string]bool{
		"registration tool:echo": false, "registration command:demo": false, "hook message_received": false,
		"registration tool:ecco": true, "registration service:tucker": true, "hook session_end": true,
	} {
		out, _ = d.ocmt(t, 0, append([]string{"plugins", "grant", "demo"}, strings.Fields(words)...)...)
		if got := strings.Contains(out, "It changes nothing yet: demo registers no "); got != unused {
			t.Errorf("%s: got\n%s", words, out)
		}
	}

	out, _ = d.ocmt(t, 0, "plugins", "revoke", "demo", "network", "api.example.com:443", "plaintext")
	contains(t, out, "Taken back from demo: network api.example.com:443\n", "No longer in force; that took no restart.\n")
	_, errout := d.ocmt(t, 3, "plugins", "revoke", "demo", "network", "api.example.com:443")
	contains(t, errout, "was not granted network api.example.com:443")
	out, _ = d.ocmt(t, 0, "plugins", "revoke", "demo", "workspace", "b")
	contains(t, out, "the plugin was restarted for it")
}

func TestGrantRefused(t *testing.T) {
	d := newDaemon(t)
	before := len(eventsOf(t, d))
	for _, tc := range []struct {
		args string
		code int
		want string
	}{
		{"demo network https://api.example.com:443", 2, "has a scheme\n  hint: write host:port without a scheme"},
		{"demo nettwork api.example.com:443", 2, `"nettwork" is no kind of permission`},
		{"demo hook before_tool_call observe,blok", 2, `"blok" is no right that the event before_tool_call has` + "\n  hint: its rights are observe,modify,block"},
		{"demo network api.example.com:443 --for -1h", 2, "--for -1h0m0s is not between 1s and"},
		{"demo network api.example.com:443 --for 0s", 2, "--for 0s is not between"},
		{"demo network api.example.com:443 --for 9000h", 2, "is not between"},
		{"demo network api.example.com:443 --for soon", 2, "invalid argument"},
		{"demo env TZ --rule GET", 2, "--rule go with network only"},
		{"demo resource state", 2, "the size is missing"},
		{"demo resource state big", 2, "hint: "},
		{"demo --manifest none.json --for 1h", 2, "--for does not go with --manifest"},
		{"demo --manifest none.json env TZ", 2, "one argument too many"},
		{"demo --manifest none.json", 3, "cannot read the manifest"},
		{"demo secret refused", 2, `cannot grant secret "refused"`}, // by the daemon
		{"nope secret KEY", 3, `there is no plugin "nope"`},
		{"demo", 2, "KIND is missing"},
		{"", 2, "ID is missing"},
	} {
		_, errout := d.ocmt(t, tc.code, append([]string{"plugins", "grant"}, strings.Fields(tc.args)...)...)
		contains(t, errout, tc.want)
	}
	if after := len(eventsOf(t, d)); after != before {
		t.Errorf("%d events, there were %d", after, before)
	}
}

func eventsOf(t *testing.T, d daemon) []v1.Event {
	t.Helper()
	out, _ := d.ocmt(t, 0, "events", "-A", "--json")
	var list []v1.Event
	for decoder := json.NewDecoder(strings.NewReader(out)); decoder.More(); {
		var e v1.Event
		if err := decoder.Decode(&e); err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	return list
}

// What config.json switches off is not said to be in force.
func TestGrantNarrowed(t *testing.T) {
	d := newDaemon(t)
	parts := d.backend.Parts()
	parts.Permissions = narrowing{parts.Permissions}
	d.socket += "2"
	d.serve(t, parts)
	out, _ := d.ocmt(t, 0, "plugins", "grant", "demo", "env", "TZ")
	contains(t, out, "Not in force in full: config.json switches some or all of it off.\n")
	if strings.Contains(out, "In force now") {
		t.Errorf("got\n%s", out)
	}
}

func TestEvents(t *testing.T) {
	d := newDaemon(t)
	out, _ := d.ocmt(t, 0, "events")
	want := `2026-01-02 03:04:05 UTC  demo  plugin.installed  @scope/demo 1.2.3 from npm
2026-01-02 03:04:05 UTC  demo  plugin.state  ready
`
	if out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	out, _ = d.ocmt(t, 0, "events", "-A", "--since", "1")
	contains(t, out, "UTC  acme  metrics  plugin.installed  metrics 0.1.0 from path\n")
	if strings.Contains(out, "@scope/demo") {
		t.Errorf("got\n%s", out)
	}
	if list := eventsOf(t, d); len(list) != 3 || list[2].Seq != 3 {
		t.Errorf("got %+v", list)
	}
	d.ocmt(t, 2, "events", "--since", "-1")
	if out, _ = d.ocmt(t, 0, "events", "-n", "1"); out != "2026-01-02 03:04:05 UTC  demo  plugin.state  ready\n" {
		t.Errorf("the last one: got\n%s", out)
	}
	if out, _ = d.ocmt(t, 0, "events", "-n", "9"); out != want {
		t.Errorf("more than there are: got\n%s", out)
	}
	d.ocmt(t, 2, "events", "-n", "-1")
}

// Following ends with an interrupt, without an error.
func TestEventsFollow(t *testing.T) {
	d := newDaemon(t)
	ctx, interrupt := context.WithCancel(t.Context())
	var c command
	seen, code := c.stdout.saw("disabled"), make(chan int)
	go func() { code <- c.run(ctx, d, "events", "-f") }()
	d.ocmt(t, 0, "plugins", "disable", "demo")
	<-seen
	interrupt()
	if got := <-code; got != 0 {
		t.Errorf("exit code %d: %s", got, c.stderr.String())
	}
}

func TestEventText(t *testing.T) {
	for _, tc := range []struct{ kind, data, want string }{
		{v1.EventState, `{"state":"backoff","reason":"error: exit code 7"}`, "backoff (error: exit code 7)"},
		{v1.EventService, `{"id":"poller","state":"failed","desired":true,"lastError":"no"}`, "poller is failed (no)"},
		{v1.EventApproval, `{"id":"x","title":"Run it?"}`, "asks: Run it? (x)"},
		{v1.EventApproval, `{"id":"x","title":"Run it?","decision":"deny","actor":"uid:1"}`, "denied by uid:1: Run it?"},
		{v1.EventApproval, `{"id":"x","title":"Run it?","decision":"timeout"}`, "timeout: Run it?"},
		{v1.EventApproval, `{"id":"x","kind":"permission","title":"It may x.","decision":"allow-once"}`, "allowed for this run: It may x."},
		{v1.EventConnection, `{"host":"a.example.com","port":443,"phase":"request","method":"GET","path":"/v1","allowed":false,"code":"request_refused"}`, "denied: GET a.example.com:443/v1 (request_refused)"},
		{v1.EventWish, `{"kind":"env","target":"TZ","sentence":"It may read TZ."}`, "tried: It may read TZ."},
		{v1.EventGrant, `{"change":"expired","permission":{"sentence":"It may x."}}`, "expired: It may x."},
		{v1.EventConnection, `{"host":"a.example.com","port":443,"allowed":true}`, "allowed: a.example.com:443"},
		{v1.EventConnection, `{"host":"a.example.com","code":"not_granted","command":"ocmt plugins grant x"}`, "denied: a.example.com (not_granted); to grant it: ocmt plugins grant x"},
		{v1.EventConfig, ``, "config.json was changed"},
		{v1.EventRemoved, ``, ""},
		{v1.EventPlugin, `{"event":"plugin.x.tick","payload":{"n": 1}}`, `plugin.x.tick {"n":1}`},
		{v1.EventPlugin, `{"event":"plugin.x.tick"}`, `plugin.x.tick`},
		{v1.EventHook, `{"event":"e","status":"changed","detail":"/a"}`, "e: changed (/a)"},
		{v1.EventGap, ``, "events were lost: they came faster than they were read"},
		{"of.tomorrow", `{"a": 1}`, `{"a":1}`},
		{v1.EventState, `"no object"`, `"no object"`},
	} {
		if got := eventText(v1.Event{Type: tc.kind, Data: json.RawMessage(tc.data)}); got != tc.want {
			t.Errorf("%s %s: got %q, want %q", tc.kind, tc.data, got, tc.want)
		}
	}
}

func TestStatusPending(t *testing.T) {
	d := newDaemon(t)
	out, _ := d.ocmt(t, 0, "status")
	contains(t, out, "\n1 request waits for a person: demo 1\n  demo: demo asks to connect to api.example.net, port 443\n      ocmt approvals approve request-1\n")
	out, _ = d.ocmt(t, 0, "status", "--json")
	var status v1.Status
	if err := json.Unmarshal([]byte(out), &status); err != nil || len(status.Pending) != 1 {
		t.Errorf("got %s, %v", out, err)
	}
	d.ocmt(t, 0, "approvals", "deny", "request-1")
	if out, _ = d.ocmt(t, 0, "status"); strings.Contains(out, "for a person") {
		t.Errorf("got\n%s", out)
	}

	var pending []v1.Approval
	for i := range 7 {
		p := v1.Approval{ID: "r", Tenant: "acme", Plugin: "mail", Title: "It may x.", Decisions: []string{v1.Deny}}
		if i%2 == 0 {
			p.Plugin, p.Decisions = "web", []string{v1.AllowOnce, v1.Deny}
		}
		pending = append(pending, p)
	}
	var b strings.Builder
	printPending(&b, pending, true)
	contains(t, b.String(), "7 requests wait for a person: acme/web 4, acme/mail 3\n", "      ocmt --tenant acme approvals approve r\n",
		"      ocmt --tenant acme plugins permissions mail\n", "  and 2 more: ocmt approvals list\n")
}

func TestLogs(t *testing.T) {
	d := newDaemon(t)
	out, _ := d.ocmt(t, 0, "plugins", "logs", "demo", "--timestamps", "--tail", "2")
	want := "2026-01-02T03:04:06.000Z second \x1b[2Jline\n2026-01-02T03:04:07.000Z third line é\n"
	if out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	out, _ = d.ocmtWith(t, &command{terminal: true}, 0, "plugins", "logs", "demo")
	if want := "first line\nsecond \\u001b[2Jline\nthird line é\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	out, _ = d.ocmt(t, 0, "plugins", "logs", "demo", "--json", "--previous")
	if want := `{"time":"2026-01-02T03:04:05Z","stream":"stdout","line":"last words"}` + "\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	if got := logText(v1.LogLine{Line: "a", Cut: true}, false); got != "a ... (cut off)" {
		t.Errorf("got %q", got)
	}

	ctx, interrupt := context.WithCancel(t.Context())
	var c command
	seen, code := c.stdout.saw("third line"), make(chan int)
	go func() { code <- c.run(ctx, d, "plugins", "logs", "demo", "-f") }()
	<-seen
	interrupt()
	if got := <-code; got != 0 {
		t.Errorf("exit code %d: %s", got, c.stderr.String())
	}
}
