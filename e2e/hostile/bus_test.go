package hostile

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// neighbour are the parameters of attacks that aim at the neighbour's subjects.
const neighbour = `{"victim":"victim","victimGeneration":{generation}}`

// aimed sets the variables of [neighbour].
func aimed(t *testing.T, w *world) {
	t.Helper()
	detail, err := w.client.Plugin(t.Context(), tenant, victimID)
	if err != nil {
		t.Fatal(err)
	}
	w.vars["generation"] = strconv.FormatUint(detail.Generation, 10)
}

// begun is what attacks answer that go on in the background; see [world.outcome].
var begun = map[string]string{"begun": "in the background"}

// busGroup is what a plugin does with the bus besides talking to its host.
func busGroup() group {
	return group{name: "bus", attacks: []attack{
		{
			name:    "bus-spoof",
			aims:    "publish as another plugin, another tenant, another generation, or the host",
			layer:   "bus: a socket may publish to the subjects of its own generation alone; accounts",
			prepare: aimed, params: neighbour,
			want: map[string]string{"tried": `\d\d`, "refused": `\d\d`, "all": "true"},
		},
		{
			name:    "bus-reply-forge",
			aims:    "have the host say something to another plugin, or to itself, by a forged reply subject",
			layer:   "bus: the host answers in the asking runner's inbox alone, and its own identity may publish nowhere else",
			prepare: aimed, params: neighbour,
			want: map[string]string{"tried": `\d\d`, "stolen": "0", "honest": "host.result"},
		},
		{
			name:    "bus-snoop",
			aims:    "hear what others are told: wildcards, inboxes, the system account, queue groups",
			layer:   "bus: a socket may subscribe to the subjects of its own generation alone; accounts",
			prepare: aimed, params: neighbour,
			want: map[string]string{"tried": `\d\d`, "refused": `\d\d`, "all": "true"},
			check: func(t *testing.T, w *world) {
				for range 20 {
					w.victim.check(t, w.rig)
				}
				w.expect(t, "heard", `{}`, `{"messages":0,"open":true}`)
			},
		},
		{
			name:    "bus-accounts",
			aims:    "be somebody else by what CONNECT claims: users, passwords, tokens, JWTs, accounts",
			layer:   "bus: the socket is the identity, CONNECT plays no part, and a second one ends the connection",
			prepare: aimed, params: neighbour,
			want: begun,
			check: func(t *testing.T, w *world) {
				w.outcome(t, map[string]string{"tried": `\d\d`, "gained": "0", "second": "Unknown Protocol Operation", "odd": `\[\]`, "base": ".*"})
			},
		},
		{
			name:  "bus-garbage",
			aims:  "confuse the host's parsers: binary, HTTP, the protocol of routes and gateways, broken frames",
			layer: "bus: the bridge reads the protocol itself, and ends a connection that leaves it",
			want:  begun,
			check: func(t *testing.T, w *world) {
				w.outcome(t, map[string]string{"tried": `\d\d`, "refused": `\d\d`, "kept": `\[\]`})
			},
		},
		{
			name:  "bus-half-open",
			aims:  "hold connections without using them",
			layer: "bus: a time for CONNECT; a half-closed connection is closed",
			want:  begun,
			check: func(t *testing.T, w *world) {
				w.outcome(t, map[string]string{"silent": "Authentication Timeout", "half": "closed"})
			},
		},
		{
			name:   "bus-socket-dir",
			aims:   "take the place of bus.sock, or of the directory that it is in",
			layer:  "read-only mount of a directory of the host's user",
			varies: true,
			want:   map[string]string{"done": `\[\]`, "outcomes": `(?:[^:]+: "(?:EROFS|EACCES|EPERM|EXDEV|EBUSY|ENOENT|EADDRINUSE|ENOTSUP|EINVAL)",?)+[^:]*`},
		},
		{
			name:    "bus-other-socket",
			aims:    "connect to another instance's socket, the host's own, or the engine's",
			layer:   "mounts: its own two sockets and nothing else; no network namespace to share abstract sockets in",
			varies:  true,
			prepare: socketsOfOthers, params: `{"paths":{paths}}`,
			want: map[string]string{"tried": `\d+`, "connected": `\[\]`, "outcomes": ".*"},
		},
		{
			name:  "bus-second-ready",
			aims:  "be allowed more by reporting a second time, with registrations that nobody has seen",
			layer: "handshake: the first outcome of a generation counts",
			want:  map[string]string{"ready": "ack", "failed": "ack", "hello": "load", "register": "nothing", "base": "5"},
			check: func(t *testing.T, w *world) { nothingBut(t, w, "attack") },
		},
		{
			name:  "bus-two-faces",
			aims:  "show less when it is installed than it registers when it runs",
			layer: "consent: what was registered after the review is not served until a person accepts it",
			want:  map[string]string{"hidden": "registered"},
			check: func(t *testing.T, w *world) {
				nothingBut(t, w, "attack")
				if _, err := w.invoke(t.Context(), w.id, "hidden", `{}`); err == nil {
					t.Error("the hidden tool answers")
				}
			},
		},
		{
			name:  "bus-shadow",
			aims:  "answer in the place of another plugin's tool, by its name",
			layer: "a call names its plugin; of bare names the one installed first has the tool",
			want:  map[string]string{"shadowing": "look"},
			check: notShadowed,
		},
		{
			name:    "bus-ready-names",
			aims:    "register under names that mean something else elsewhere",
			layer:   "load check: names are checked in the host",
			refused: "the tool name is empty",
			check:   badNames,
		},
		{
			name:    "bus-ready-many",
			aims:    "register more than anybody can look at",
			layer:   "wire: at most 1,024 registrations",
			refused: "1025 registrations",
		},
		{
			name:    "bus-ready-huge",
			aims:    "fill the host's memory with one registration",
			layer:   "wire: at most 1 MiB of registrations",
			refused: "at most 1048576",
		},
		{
			name:    "bus-health",
			aims:    "report failures of services that are not its own",
			layer:   "services: reports count for the instance's own registered services; a rate",
			prepare: aimed, params: neighbour,
			want: map[string]string{"refused": "1"},
			check: func(t *testing.T, w *world) {
				for _, s := range services(t, w.rig) {
					if s.State != "running" || s.LastError != "" || s.Plugin != w.id && strings.Contains(fmt.Sprint(s), "forged") {
						t.Errorf("%+v", s)
					}
				}
			},
		},
		{
			name:  "bus-host-calls",
			aims:  "use what of the host was not granted, and more of the rest than anybody needs",
			layer: "host calls: methods by grant, a rate, sizes",
			want:  map[string]string{"accepted": `\[\]`, "codes": ".*not_granted.*", "answered": `\d+`, "bounded": "true"},
			check: func(t *testing.T, w *world) {
				for _, rec := range w.audited(t) {
					if rec["action"] == "host.emit" || rec["action"] == "permission.grant" {
						t.Errorf("recorded: %v", rec)
					}
				}
			},
		},
		{
			name:  "bus-wish",
			aims:  "fill a person's list of requests, or be granted something, by wishes as in learn mode",
			layer: "host calls: wishes count while a person has the plugin learn, and then are bounded",
			want:  map[string]string{"answers": `\[\s*("not_granted",?\s*){4}\]`},
			check: func(t *testing.T, w *world) {
				list, err := w.client.Approvals(t.Context(), tenant)
				if err != nil {
					t.Fatal(err)
				}
				for _, a := range list {
					if a.Plugin == w.id {
						t.Errorf("it waits for %+v", a)
					}
				}
			},
		},
	}}
}

// badNames has the attacker report one tool after the other, each of a name
// that must not get any further.
func badNames(t *testing.T, w *world) {
	dir := filepath.Join(w.dir, "package")
	for _, name := range []string{"a.b", "a*", ">", "a b", "a\x00b", "a\nb", "\u202egnp", "\x1b[2J", "ａｔｔａｃｋ", "../x", "__proto__", "A/B", strings.Repeat("x", 129), strings.Repeat("x", 200_000)} {
		if err := os.WriteFile(filepath.Join(dir, "names.json"), mustJSON(t, []string{name}), 0o644); err != nil {
			t.Fatal(err)
		}
		res := w.daemon.Run(t.Context(), "plugins", "install", dir)
		if text := string(res.Stderr); res.Code == 0 || !strings.Contains(text, "tool name") || strings.ContainsAny(text, "\x1b\x00\u202e") || len(text) > 4096 {
			t.Errorf("a tool of the name %.50q: exit code %d, %.1000q", name, res.Code, text)
		}
	}
}

// socketsOfOthers sets the paths of sockets that are not the attacker's.
func socketsOfOthers(t *testing.T, w *world) {
	t.Helper()
	var paths []string
	for _, pattern := range []string{"ocmt/run/*.sock", "ocmt/run/i/*/*.sock", "ocmt/tenants/*/call.sock"} {
		found, err := filepath.Glob(filepath.Join(w.daemon.Home, pattern))
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, found...)
	}
	if len(paths) < 3 {
		t.Fatalf("there are the sockets %v alone", paths)
	}
	text, err := json.Marshal(paths)
	if err != nil {
		t.Fatal(err)
	}
	w.vars["paths"] = string(text)
}

// outcome waits for what became of an attack in the background, and compares it
// with what is wanted. Calls meanwhile fail: a connection of the plugin ends.
func (w *world) outcome(t *testing.T, want map[string]string) {
	t.Helper()
	var object map[string]json.RawMessage
	if !within(time.Minute, func() bool {
		result, err := w.invoke(t.Context(), w.id, "outcome", `{}`)
		return err == nil && json.Unmarshal(result, &object) == nil && object != nil
	}) {
		t.Fatal("nothing became of it")
	}
	answer := map[string]string{}
	for attempt, became := range object {
		var text string
		if json.Unmarshal(became, &text) != nil {
			text = string(became)
		}
		answer[attempt] = text
	}
	(&attack{want: want}).judge(t, answer)
}

// expect calls a tool of the attacker that must return exactly want.
func (w *world) expect(t *testing.T, tool, params, want string) {
	t.Helper()
	if got, err := w.invoke(t.Context(), w.id, tool, params); err != nil || string(got) != want {
		t.Errorf("%s: %s, %v, want %s", tool, got, err, want)
	}
}

// nothingBut fails the test if the attacker has more in force than one tool.
func nothingBut(t *testing.T, w *world, tool string) {
	t.Helper()
	detail := w.plugin(t)
	if len(detail.ToolList) != 1 || detail.ToolList[0].Name != tool {
		t.Errorf("its tools are %+v", detail.ToolList)
	}
	hooks, err := w.client.Hooks(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hooks {
		if h.Plugin == w.id && len(h.Rights) > 0 {
			t.Errorf("its hook %+v is in force", h)
		}
	}
	for _, s := range services(t, w.rig) {
		if s.Plugin == w.id {
			t.Errorf("its service %+v is in force", s)
		}
	}
}

func services(t *testing.T, r *rig) []v1.Service {
	t.Helper()
	list, err := r.client.Services(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// notShadowed looks at whom a host that knows bare names would ask.
func notShadowed(t *testing.T, w *world) {
	t.Helper()
	tools, err := w.client.Tools(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	for _, tool := range tools {
		switch {
		case tool.Plugin == victimID && tool.Shadowed != "":
			t.Errorf("the neighbour's %s is shadowed by %s", tool.Name, tool.Shadowed)
		case tool.Plugin == w.id && (tool.Name == "look" || tool.Name == "keep") && tool.Shadowed != victimID:
			t.Errorf("the attacker's %s is not said to be shadowed: %+v", tool.Name, tool)
		}
	}
}

// What the daemon may grow by, and how long a neighbour may wait for its
// answer, while an attacker floods the host. The tests share two processors
// with all that they start.
const (
	maxGrowth = 96 << 10 // kB
	maxWait   = 8 * time.Second
)

// watcher samples the daemon's memory and its neighbour's patience.
type watcher struct {
	cancel  context.CancelFunc
	done    sync.WaitGroup
	before  int // kB
	peak    int
	slowest time.Duration
	calls   int
	failed  error
}

func watch(t *testing.T, r *rig) *watcher {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	wa := &watcher{cancel: cancel, before: memory(t, r.daemon.PID())}
	wa.done.Go(func() {
		for ctx.Err() == nil {
			start := time.Now()
			if _, err := r.victim.look(context.WithoutCancel(ctx), r); err != nil {
				wa.failed = err
			}
			wa.calls++
			wa.slowest = max(wa.slowest, time.Since(start))
			wa.peak = max(wa.peak, memory(t, r.daemon.PID()))
			time.Sleep(20 * time.Millisecond)
		}
	})
	return wa
}

func (wa *watcher) check(t *testing.T) {
	t.Helper()
	wa.cancel()
	wa.done.Wait()
	t.Logf("the daemon grew from %d kB to %d kB at most; the neighbour answered %d times, in %s at most", wa.before, wa.peak, wa.calls, wa.slowest)
	if wa.peak-wa.before > maxGrowth {
		t.Errorf("the daemon grew from %d kB to %d kB", wa.before, wa.peak)
	}
	if wa.failed != nil || wa.slowest > maxWait {
		t.Errorf("the neighbour answered in %s, %v", wa.slowest, wa.failed)
	}
}

// watched has the daemon and the neighbour watched from before the attack to
// after its check.
func watched(a attack) attack {
	prepare, check := a.prepare, a.check
	var wa *watcher
	a.prepare = func(t *testing.T, w *world) {
		if prepare != nil {
			prepare(t, w)
		}
		wa = watch(t, w.rig)
	}
	a.check = func(t *testing.T, w *world) {
		if check != nil {
			check(t, w)
		}
		wa.check(t)
	}
	return a
}

// floodsGroup is what costs the host something: one after the other.
func floodsGroup() group {
	return group{name: "floods", alone: true, attacks: []attack{
		watched(attack{
			name:  "bus-huge",
			aims:  "send messages that are larger than any may be",
			layer: "bus: the bridge reads sizes before the server does, and ends the connection",
			want:  begun,
			check: func(t *testing.T, w *world) {
				w.outcome(t, map[string]string{"accepted": "0", "ends": `(?:\s*[\[\]"]|closed|Maximum Payload Violation|Unknown Protocol Operation|Parser Error|,)*`})
			},
		}),
		watched(attack{
			name:  "bus-flood",
			aims:  "fill the host's memory and its neighbours' time with messages",
			layer: "bus: the bridge reads no faster than the limits, so that the writer waits; what handlers cannot take is dropped",
			want:  map[string]string{"bytes": `\d+`, "perSecond": `\d+`, "stalled": "true", "refused": `\[\]`},
			check: func(t *testing.T, w *world) {
				const most = 80 << 20 // bytes/s: 64 MiB, and the burst spread over the time
				if n, err := strconv.Atoi(w.answer["perSecond"]); err != nil || n > most {
					t.Errorf("it wrote %s bytes/s, %v", w.answer["perSecond"], err)
				}
			},
		}),
		watched(attack{
			name:  "bus-slow-reader",
			aims:  "have the host keep what it never reads",
			layer: "bus: bounded pending bytes and a write deadline, beyond which the connection is closed",
			want:  map[string]string{"deaf": "true"},
			check: func(t *testing.T, w *world) {
				params := `{"text":"` + strings.Repeat("x", 1<<19) + `"}`
				for range 40 {
					// One fails at the most: with the connection that is closed.
					if got, err := w.invoke(t.Context(), w.id, "take", params); err == nil && string(got) != `{"bytes":524288}` {
						t.Errorf("take: %s", got)
					}
				}
				if !within(10*time.Second, func() bool {
					got, err := w.invoke(t.Context(), w.id, "after", `{}`)
					return err == nil && string(got) == `{"closed":true}`
				}) {
					t.Error("the connection that does not read is kept")
				}
			},
		}),
		watched(attack{
			name:  "bus-connections",
			aims:  "take all of the host's descriptors, or the neighbours' places",
			layer: "bus: connections of one plugin are counted and accepted at a rate; the rest wait in the kernel",
			want:  begun,
			check: func(t *testing.T, w *world) {
				w.outcome(t, map[string]string{"count": `\d+`, "greeted": `\d+`, "held": `\d+`, "bounded": "true"})
				if n := openFiles(t, w.daemon.PID()); n > w.files+maxFiles {
					t.Errorf("the daemon holds %d files, held %d before", n, w.files)
				}
			},
		}),
		watched(attack{
			name:  "bus-storm",
			aims:  "keep the host busy with connections that end at once",
			layer: "bus: connections of one plugin are accepted at a rate",
			want:  begun,
			check: func(t *testing.T, w *world) {
				w.outcome(t, map[string]string{"attempts": `\d+`, "greeted": `\d+`, "bounded": "true"})
			},
		}),
		watched(attack{
			name:  "bus-subscriptions",
			aims:  "fill the server's memory and slow its routing with subscriptions",
			layer: "bus: at most 64 subscriptions in a plugin's account",
			want:  begun,
			check: func(t *testing.T, w *world) {
				w.outcome(t, map[string]string{"count": `\d+`, "refused": `\d+`, "closed": "true|false", "bounded": "true"})
			},
		}),
	}}
}

// fails calls a tool of the attacker that must fail with a code, and in time.
func (w *world) fails(t *testing.T, tool, params, code string, timeout time.Duration) {
	t.Helper()
	start := time.Now()
	result, err := w.client.Call(t.Context(), tenant, w.id, tool, v1.CallRequest{Params: json.RawMessage(params), TimeoutMillis: timeout.Milliseconds()})
	if err == nil {
		t.Errorf("%s %s: %.200q, want %s", tool, params, result.Result, code)
	} else if got := fault.Of(err).Code; got != code || time.Since(start) > timeout+5*time.Second {
		t.Errorf("%s %s: %s: %v after %s, want %s", tool, params, got, err, time.Since(start), code)
	}
}
