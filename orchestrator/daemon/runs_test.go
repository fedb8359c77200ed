package daemon

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus/wire"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
	"github.com/ocmt/ocmt/sandbox/egress"
	"github.com/ocmt/ocmt/sandbox/egress/link"
)

const tried = "api.example.com:443"

// denied has a plugin be refused a destination, and returns the request that
// comes of it.
func (s *stage) denied(key plugin.Key) string {
	s.t.Helper()
	c := egress.Connection{Phase: egress.PhaseDenied, Code: link.NotGranted, Time: time.Now(), Host: "api.example.com", Port: 443}
	if err := s.onConnection(key, c); err != nil {
		s.t.Fatal(err)
	}
	for _, r := range s.authority.Requests(key) {
		if r.Kind == policy.Network {
			return r.ID
		}
	}
	s.t.Fatal("nothing is requested")
	return ""
}

func (s *stage) resolve(tenant, id, decision string) error {
	_, err := approvalAPI{s.Daemon}.Resolve(operator(s.t.Context()), tenant, id, decision)
	return err
}

// What is allowed for one run ends with it, however it ends, and when it is
// taken back.
func TestAllowedForOneRun(t *testing.T) {
	s := newStage(t)
	sc, seen := loads(nil)
	key := s.install("demo", sc)
	next(t, seen)
	none := func() bool {
		return len(s.authority.Effective(key).Network) == 0 && len(s.authority.RunGrants(key)) == 0
	}
	end := map[string]func() error{
		"revoked": func() error { s.revoke(key, policy.Network, tried); return nil },
		"restarted": func() error {
			_, err := pluginAPI{s.Daemon}.Restart(operator(t.Context()), key.Tenant, key.ID)
			return err
		},
		"killed": func() error { return s.engine.Stop(t.Context(), s.status(key).Instance, 0) },
		"off and on": func() error {
			_, err := pluginAPI{s.Daemon}.Disable(operator(t.Context()), key.Tenant, key.ID)
			if err == nil {
				_, err = pluginAPI{s.Daemon}.Enable(operator(t.Context()), key.Tenant, key.ID)
			}
			return err
		},
		"reinstalled": func() error {
			err := pluginAPI{s.Daemon}.Uninstall(operator(t.Context()), key.Tenant, key.ID, false)
			s.install("demo", sc)
			return err
		},
	}
	for name, ends := range end {
		s.eventually("it runs", s.runs(key))
		if err := s.resolve(key.Tenant, s.denied(key), v1.AllowOnce); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if u := s.newest(key); len(s.networkOf(key, s.authority.Effective(key)).Grants()) != 1 || u == nil {
			t.Errorf("%s: it is not in force", name)
		}
		if err := ends(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s.eventually(name+": it has ended", none)
		if len(s.authority.Grants(key)) != 1 {
			t.Errorf("%s: it was granted %v", name, s.authority.Grants(key))
		}
	}
}

// An instance that never got ready leaves nothing that was allowed for its run.
func TestAllowedForARunThatFails(t *testing.T) {
	s := newStage(t)
	goOn := make(chan struct{})
	key, seen := s.granted(t, goOn)
	if err := s.supervisor.Replace(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	next(t, seen)
	if err := s.resolve(key.Tenant, s.denied(key), v1.AllowOnce); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	if err := s.engine.Stop(t.Context(), s.newest(key).ID(), 0); err != nil {
		t.Fatal(err)
	}
	next(t, seen)
	if got := s.authority.RunGrants(key); len(got) != 0 {
		t.Errorf("the next instance has %v", got)
	}
}

// A request is resolved with what is offered, by those of its tenant, or not at
// all.
func TestDecisionsThatAreNotOffered(t *testing.T) {
	s := newStage(t)
	key := s.install("demo", script{registers: []wire.Registration{tool("echo")}})
	id := s.denied(key)
	for _, decision := range []string{"", "allow", "ALLOW-ALWAYS", "deny ", "timeout"} {
		if err := s.resolve(key.Tenant, id, decision); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", decision, err)
		}
	}
	if err := s.resolve("acme", id, v1.AllowAlways); !errdefs.IsNotFound(err) {
		t.Errorf("of another tenant: %v", err)
	}
	if len(s.authority.Grants(key)) != 1 || len(s.authority.RunGrants(key)) != 0 {
		t.Errorf("granted %v", s.authority.Grants(key))
	}
	if err := s.resolve(key.Tenant, id, v1.Deny); err != nil {
		t.Fatal(err)
	}
	for _, decision := range []string{v1.Deny, v1.AllowOnce, v1.AllowAlways} {
		if err := s.resolve(key.Tenant, id, decision); !errdefs.IsNotFound(err) {
			t.Errorf("%s after it was denied: %v", decision, err)
		}
	}
	t.Setenv(colour, "red")
	p, err := s.catalog.get(key.Tenant, key.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.allowRun(operator(t.Context()), p, grantOf(t, policy.Env, colour)); fault.Of(err).Code != "not_for_one_run" {
		t.Errorf("a variable for one run: %v", err)
	}
}

// The commands that are offered name what would let a connection pass, and keep
// what is granted.
func TestOfferedCommands(t *testing.T) {
	s := newStage(t)
	key := s.install("demo", script{registers: []wire.Registration{tool("echo")}})
	s.grant(key, policy.Network, "*.example.org:443", "")
	s.grant(key, policy.Network, "api.example.org:443", "rules=GET /v1/*")
	s.grant(key, policy.Network, "narrow.example.com:443", "rules=GET /* POST /in")
	s.writeConfig(`{"plugins": {"entries": {"demo": {"permissions": {"network": [
		{"host": "*.example.org"}, {"host": "narrow.example.com", "rules": ["GET /a"]}]}}}}}`)
	refused := func(host, method, path string) v1.Connection {
		return v1.Connection{Phase: string(egress.PhaseRequest), Code: string(link.RequestRefused), Host: host, Port: 443, Method: method, Path: path}
	}
	unknown := func(host string) v1.Connection {
		return v1.Connection{Phase: string(egress.PhaseDenied), Code: string(link.NotGranted), Host: host, Port: 443}
	}
	const grant = "ocmt plugins grant demo network "
	for name, tc := range map[string]struct {
		c    v1.Connection
		want string
	}{
		"of the name before the wildcard": {refused("api.example.org", "POST", "/it's"), grant + `api.example.org:443 'rules=GET /v1/* POST /it'\''s'`},
		"narrowed away":                   {refused("narrow.example.com", "POST", "/in"), ""},
		"beside what is narrowed away":    {refused("narrow.example.com", "PUT", "/x"), grant + "narrow.example.com:443 'rules=GET /* POST /in PUT /x'"},
		"granted by now":                  {unknown("www.example.org"), ""},
		"new":                             {unknown("new.example.net"), grant + "new.example.net:443"},
		"an address":                      {unknown("169.254.169.254"), ""},
		"what no shell may see":           {unknown("a;reboot.example.net"), ""},
	} {
		command := ""
		if ask, ok := askFor(s.grantedTo(key), tc.c); ok {
			command = policy.Command(key, ask)
		}
		if command != tc.want {
			t.Errorf("%s: %s\nwant %s", name, command, tc.want)
		}
	}
}

// The network log shows the newest entries, whenever they were made, and those
// of the tenant that asks alone.
func TestNetworkLog(t *testing.T) {
	s := newStage(t)
	key := s.install("demo", script{registers: []wire.Registration{tool("echo")}})
	other := plugin.Key{Tenant: "acme", ID: "demo"}
	now := time.Now()
	for _, c := range []struct {
		key  plugin.Key
		age  time.Duration
		host string
	}{
		{key, 30 * 24 * time.Hour, "a"}, {key, 3 * 24 * time.Hour, "b"}, {other, time.Minute, "theirs"}, {key, 2 * time.Hour, "c"},
		{key, time.Minute, "2001:db8::1"}, {key, time.Second, "d"},
	} {
		con := egress.Connection{Phase: egress.PhaseDenied, Code: link.NotGranted, Time: now.Add(-c.age), Host: c.host, Port: 443}
		if err := s.recordConnection(c.key, con); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		tenant string
		q      v1.ConnectionQuery
		want   []string
	}{
		"all":                 {"default", v1.ConnectionQuery{}, []string{"a", "b", "c", "2001:db8::1", "d"}},
		"one":                 {"default", v1.ConnectionQuery{Limit: 1}, []string{"d"}},
		"beyond the last day": {"default", v1.ConnectionQuery{Limit: 4}, []string{"b", "c", "2001:db8::1", "d"}},
		"lately":              {"default", v1.ConnectionQuery{Since: now.Add(-3 * time.Hour)}, []string{"c", "2001:db8::1", "d"}},
		"of the other tenant": {"acme", v1.ConnectionQuery{}, []string{"theirs"}},
		"of all, by plugin":   {"", v1.ConnectionQuery{Plugin: "demo", Limit: 3}, []string{"2001:db8::1", "d", "theirs"}},
		"of none":             {"", v1.ConnectionQuery{Plugin: "nobody"}, nil},
	} {
		list, err := networkAPI{s.Daemon}.Connections(t.Context(), tc.tenant, tc.q)
		var got []string
		for _, c := range list {
			got = append(got, c.Host)
		}
		if name == "of all, by plugin" { // in the order of the log
			slices.Sort(got)
			slices.Sort(tc.want)
		}
		if err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, tc.want)
		}
	}
}

// A lesson whose time is over ends itself and none that came after it, and none
// once the daemon closes.
func TestLessonsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, key, over := newLearning(), plugin.Key{Tenant: "default", ID: "demo"}, 0
		count := func(context.Context) { over++ }
		l.begin(key, time.Minute, count)
		first := l.units[key]
		l.begin(key, time.Hour, count)
		if l.endTimed(key, first) || !l.on(key) {
			t.Error("a lesson is ended by the one before")
		}
		time.Sleep(time.Hour + time.Second)
		synctest.Wait()
		if l.on(key) || over != 1 {
			t.Errorf("after its time it is on: %v; %d were ended", l.on(key), over)
		}
		l.begin(key, time.Minute, count)
		l.forget(key)
		l.begin(key, time.Minute, count)
		if err := l.close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if over != 1 {
			t.Errorf("%d lessons were ended", over)
		}
	})
}

// Learn mode is on record as what it is, whatever becomes of the restart, and
// notes all that is refused, also hooks that are registered only then.
func TestLearnMode(t *testing.T) {
	s := newStage(t)
	sc, seen := loads(nil)
	key := s.install("demo", sc)
	next(t, seen)
	late := sc
	late.registers = append(slices.Clone(sc.registers), hook("message_received"))
	s.play(key.ID, late)
	learn := func(ctx context.Context, on bool) (v1.Learning, error) {
		return learnAPI{s.Daemon}.Learn(operator(ctx), key.Tenant, key.ID, v1.LearnRequest{On: on})
	}
	if _, err := learn(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if !next(t, seen).Learn {
		t.Error("the runner is not told")
	}
	s.grant(key, policy.Network, tried, "rules=GET /a")
	for _, path := range []string{"/b", "/c"} {
		c := egress.Connection{Phase: egress.PhaseRequest, Code: link.RequestRefused, Time: time.Now(), Host: "api.example.com", Port: 443, Method: "POST", Path: path}
		if err := s.onConnection(key, c); err != nil {
			t.Fatal(err)
		}
	}
	got, err := learnAPI{s.Daemon}.Learning(t.Context(), key.Tenant, key.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"POST /b", "POST /c", "message_received"} {
		if !strings.Contains(string(got.Manifest), want) {
			t.Errorf("the manifest lacks %s: %s", want, got.Manifest)
		}
	}
	for _, w := range got.Wishes {
		if w.Request == "" || w.Command == "" {
			t.Errorf("a wish without its request: %+v", w)
		}
	}

	flood := 2 * maxLearned
	for i := range flood {
		params := []byte(`{"kind":"env","target":"FLOOD_` + strconv.Itoa(i) + `"}`)
		if r := s.wished(key, wire.HostCall{Method: wire.HostWish, Params: params}); r.Error != nil {
			t.Fatal(r.Error)
		}
	}
	if got, err = (learnAPI{s.Daemon}).Learning(t.Context(), key.Tenant, key.ID); err != nil || len(got.Wishes) != maxLearned {
		t.Errorf("%d wishes of %d are kept, %v", len(got.Wishes), flood, err)
	}
	for _, w := range got.Wishes {
		if w.Command == "" {
			t.Errorf("a wish that nothing grants: %+v", w)
		}
	}

	s.play(key.ID, script{registers: []wire.Registration{tool("no such name")}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := learn(ctx, false); err == nil || errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "learn mode is off") {
		t.Errorf("with a plugin that does not start: %v", err)
	}
	if got := s.outcomes("plugin.learn.end"); !slices.Equal(got, []string{outcomeBegun, outcomeDone}) || s.learning.on(key) {
		t.Errorf("on record as %q, on %v", got, s.learning.on(key))
	}
}
