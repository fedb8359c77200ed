package instance_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus/subject"
	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/instance"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/egress"
	"github.com/ocmt/ocmt/sandbox/fake"
)

// patience bounds every wait of a test; nothing takes that long unless it hangs.
const patience = 10 * time.Second

func receive[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("%s did not come", what)
		panic("unreachable")
	}
}

// specOf returns what the fake engine was asked to create.
func specOf(t *testing.T, f *instance.Factory, in *instance.Instance) sandbox.Spec {
	t.Helper()
	spec, err := f.Engine.(*fake.Engine).Spec(in.ID())
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// serving is a workload that loads, hands its runner over and waits.
func serving(ready chan<- *runner, handle map[string]func([]byte) any) workload {
	return func(ctx context.Context, spec sandbox.Spec, _ io.Writer) int {
		r, err := dial(spec, handle)
		if err != nil {
			return 1
		}
		defer r.conn.Close()
		r.load = r.request(ctx, subject.Hello, hello())
		r.request(ctx, subject.Ready, readyWith("echo"))
		ready <- r
		<-ctx.Done()
		return 0
	}
}

func TestGrantsReachTheRunnerAlone(t *testing.T) {
	ready := make(chan *runner, 1)
	f, _, plan := setup(t, serving(ready, nil))
	plan.Env = map[string]string{"API_KEY": "s3cret"}
	plan.Host = []string{wire.HostEmit}
	plan.WorkspaceDir = "/srv/work"
	in, err := start(t, f, plan)
	if err != nil {
		t.Fatal(err)
	}
	var load wire.Load
	if err := wire.Decode(receive(t, "runner", ready).load, &load); err != nil {
		t.Fatal(err)
	}
	if load.Env["API_KEY"] != "s3cret" || !slices.Equal(load.Host, plan.Host) || load.WorkspaceDir != plan.WorkspaceDir {
		t.Errorf("the runner was told %+v", load)
	}
	if engine, err := json.Marshal(specOf(t, f, in)); err != nil || strings.Contains(string(engine), "s3cret") {
		t.Errorf("the engine was told the secret: %s, %v", engine, err)
	}
}

func TestLimits(t *testing.T) {
	f, h, plan := setup(t, wellBehaved)
	f.Info.Memory, f.Info.CPUs = 1<<30, 2
	for name, c := range map[string]struct {
		named sandbox.Limits
		want  sandbox.Limits // of memory and PIDs
		heap  string
		code  string
	}{
		"defaults":          {want: sandbox.Limits{Memory: 256 << 20, PIDs: 64}, heap: "179"},
		"more memory":       {named: sandbox.Limits{Memory: 1 << 30}, want: sandbox.Limits{Memory: 1 << 30, PIDs: 64}, heap: "716"},
		"fewer processes":   {named: sandbox.Limits{PIDs: 20}, want: sandbox.Limits{Memory: 256 << 20, PIDs: 20}, heap: "179"},
		"too much memory":   {named: sandbox.Limits{Memory: 1<<30 + 1}, code: "limits_too_large"},
		"too many CPUs":     {named: sandbox.Limits{CPUs: 2.5}, code: "limits_too_large"},
		"negative memory":   {named: sandbox.Limits{Memory: -1}, code: "limits_invalid"},
		"negative CPUs":     {named: sandbox.Limits{CPUs: -0.5}, code: "limits_invalid"},
		"negative PIDs":     {named: sandbox.Limits{PIDs: -1}, code: "limits_invalid"},
		"no number of CPUs": {named: sandbox.Limits{CPUs: math.NaN()}, code: "limits_invalid"},
		"CPUs without end":  {named: sandbox.Limits{CPUs: math.Inf(1)}, code: "limits_invalid"},
		"too little memory": {named: sandbox.Limits{Memory: 1}, code: "limits_invalid"},
		"absurd memory":     {named: sandbox.Limits{Memory: math.MaxInt64}, code: "limits_invalid"},
		"absurd PIDs":       {named: sandbox.Limits{PIDs: math.MaxInt64}, code: "limits_invalid"},
		"absurd files":      {named: sandbox.Limits{OpenFiles: math.MinInt64}, code: "limits_invalid"},
		"an absurd log":     {named: sandbox.Limits{LogSize: 1 << 60}, code: "limits_invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			plan.Limits = c.named
			in, err := f.Prepare(t.Context(), plan)
			if c.code != "" {
				if got := fault.Of(err); got.Code != c.code || got.Hint == "" || !errdefs.IsInvalidArgument(err) {
					t.Fatalf("Prepare() = %v, want %s", err, c.code)
				}
				expectNothing(t, h)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			spec := specOf(t, f, in)
			if spec.Limits.Memory != c.want.Memory || spec.Limits.PIDs != c.want.PIDs || !slices.Contains(spec.Args, "--max-old-space-size="+c.heap) {
				t.Errorf("limits %+v, arguments %q", spec.Limits, spec.Args)
			}
			if err := in.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestHostCertificates: an operator behind a proxy that inspects TLS needs them
// in the container.
func TestHostCertificates(t *testing.T) {
	f, _, plan := setup(t, wellBehaved)
	dir := t.TempDir()
	for name, text := range map[string]string{"a.pem": "first", "b.pem": "second"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f.CAFiles = append(f.CAFiles, path)
	}
	slices.Sort(f.CAFiles)
	f.CAFiles = append(f.CAFiles, filepath.Join(dir, "gone.pem"))
	in, err := start(t, f, plan)
	if err != nil {
		t.Fatal(err)
	}
	spec := specOf(t, f, in)
	got, err := os.ReadFile(source(spec, "/etc/ssl/ocmt-ca.pem"))
	own, isLast := strings.CutPrefix(string(got), "first\nsecond\n")
	if err != nil || !isLast || !strings.HasPrefix(own, "-----BEGIN CERTIFICATE-----\n") || !slices.Contains(spec.Env, "NODE_EXTRA_CA_CERTS=/etc/ssl/ocmt-ca.pem") {
		t.Errorf("certificates %q, %v, environment %q", got, err, spec.Env)
	}
}

func TestHookCalls(t *testing.T) {
	cancelled := make(chan string, 1)
	answers := func(data []byte) any {
		var call wire.HookCall
		if err := wire.Decode(data, &call); err != nil {
			return nil
		}
		result := wire.HookResult{Type: wire.TypeHookResult, ID: call.ID, Result: json.RawMessage("null")}
		switch call.Event {
		case "modify":
			result.Payload = call.Payload
		case "other id":
			result.ID = "another"
		case "throw":
			result = wire.HookResult{Type: wire.TypeHookResult, ID: call.ID, Error: &wire.Error{Code: wire.CodeThrew, Message: strings.Repeat("é", wire.MaxReason)}}
		case "large":
			result.Result = json.RawMessage(`"` + strings.Repeat("x", wire.MaxSize-1000) + `"`)
		case "nonsense":
			return "nonsense"
		case "never":
			return nil
		}
		return result
	}
	ready := make(chan *runner, 1)
	f, _, plan := setup(t, serving(ready, map[string]func([]byte) any{subject.Hook: answers, subject.Cancel: func(data []byte) any {
		var cancel wire.Cancel
		if err := wire.Decode(data, &cancel); err == nil {
			cancelled <- cancel.ID
		}
		return nil
	}}))
	in, err := start(t, f, plan)
	if err != nil {
		t.Fatal(err)
	}
	call := func(ctx context.Context, event string) (wire.HookResult, error) {
		return in.CallHook(ctx, wire.HookCall{ID: "h1", Handler: 1, Event: event, Payload: json.RawMessage(`{"a":1}`), TimeoutMillis: 1000})
	}
	if got, err := call(t.Context(), "modify"); err != nil || string(got.Payload) != `{"a":1}` {
		t.Errorf("modify: %+v, %v", got, err)
	}
	if got, err := call(t.Context(), "throw"); err != nil || got.Error == nil || len(got.Error.Message) > wire.MaxReason {
		t.Errorf("throw: %+v, %v", got, err)
	}
	for _, event := range []string{"other id", "nonsense", "large"} {
		if _, err := call(t.Context(), event); fault.Of(err).Code != "bad_result" || !errors.Is(err, fault.ErrPlugin) {
			t.Errorf("%s: %v, want bad_result", event, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := call(ctx, "never"); !errdefs.IsDeadlineExceeded(err) {
		t.Errorf("never: %v, want DeadlineExceeded", err)
	}
	if id := receive(t, "cancel", cancelled); id != "h1" {
		t.Errorf("%q was cancelled", id)
	}
	if _, err := in.CallHook(t.Context(), wire.HookCall{ID: "h2", Handler: -1}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a handler that cannot be: %v", err)
	}
}

func TestServicesAndApprovals(t *testing.T) {
	resolved := make(chan wire.Resolved, 1)
	ready := make(chan *runner, 1)
	f, _, plan := setup(t, serving(ready, map[string]func([]byte) any{
		subject.Ping: func([]byte) any { return wire.Pong{Type: wire.TypePong} },
		subject.Service: func(data []byte) any {
			var call wire.ServiceCall
			if err := wire.Decode(data, &call); err != nil {
				return nil
			}
			result := wire.ServiceResult{Type: wire.TypeServiceResult, ID: call.ID}
			switch {
			case call.Service == "other id":
				result.ID = "x"
			case call.Op == wire.ServiceStop:
				result.Error = &wire.Error{Code: wire.CodeUnknownService, Message: "m"}
			}
			return result
		},
		subject.Resolved: func(data []byte) any {
			var r wire.Resolved
			if err := wire.Decode(data, &r); err == nil {
				resolved <- r
			}
			return nil
		},
	}))
	health := make(chan wire.ServiceHealth, 100)
	f.OnServiceHealth = func(k plugin.Key, id string, h wire.ServiceHealth) {
		if k != key || !strings.Contains(id, "demo") {
			h.Reason = fmt.Sprintf("told of %v, %s", k, id)
		}
		health <- h
	}
	in, err := start(t, f, plan)
	if err != nil {
		t.Fatal(err)
	}
	r := receive(t, "runner", ready)
	if got, err := in.CallService(t.Context(), wire.ServiceCall{ID: "s1", Service: "a", Op: wire.ServiceStart}); err != nil || got.Error != nil {
		t.Errorf("start: %+v, %v", got, err)
	}
	if got, err := in.CallService(t.Context(), wire.ServiceCall{ID: "s2", Service: "a", Op: wire.ServiceStop}); err != nil || got.Error == nil || got.Error.Code != wire.CodeUnknownService {
		t.Errorf("stop: %+v, %v", got, err)
	}
	if _, err := in.CallService(t.Context(), wire.ServiceCall{ID: "s3", Service: "other id", Op: wire.ServiceStart}); fault.Of(err).Code != "bad_result" {
		t.Errorf("other id: %v, want bad_result", err)
	}
	if err := in.Resolved(wire.Resolved{ID: "h1", Decision: "deny"}); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, "resolution", resolved); got.ID != "h1" || got.Decision != "deny" {
		t.Errorf("resolved: %+v", got)
	}
	want := wire.ServiceHealth{Type: wire.TypeServiceHealth, Service: "a", Failed: true, Reason: "why"}
	r.publish(subject.Out(r.id, subject.Health), "", "{{{")
	for range 50 { // what is faster than the limit is dropped
		r.publish(subject.Out(r.id, subject.Health), "", want)
	}
	if got := receive(t, "health", health); got != want {
		t.Errorf("health %+v, want %+v", got, want)
	}
	if err := in.Ping(t.Context()); err != nil {
		t.Errorf("Ping() after the reports = %v", err)
	}
	if n := len(health); n > 30 {
		t.Errorf("%d of 50 reports in a burst were told", n)
	}
}

func TestHostCalls(t *testing.T) {
	ready := make(chan *runner, 1)
	f, _, plan := setup(t, serving(ready, nil))
	plan.Host = []string{wire.HostEmit, "host.block", "host.broken"}
	release := make(chan struct{})
	var blocked atomic.Int32
	f.OnHostCall = func(ctx context.Context, k plugin.Key, call wire.HostCall) wire.HostResult {
		switch call.Method {
		case "host.block":
			blocked.Add(1)
			<-release
		case "host.broken":
			return wire.HostResult{}
		}
		return wire.HostResult{ID: "forged", Result: call.Params}
	}
	if _, err := start(t, f, plan); err != nil {
		t.Fatal(err)
	}
	r := receive(t, "runner", ready)
	ask := func(id, method string) wire.HostResult {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		var result wire.HostResult
		data := r.request(ctx, subject.Host, wire.HostCall{Type: wire.TypeHostCall, ID: id, Method: method, Params: json.RawMessage(`{"a":1}`)})
		if err := wire.Decode(data, &result); err != nil {
			t.Errorf("%s: %v", method, err)
		}
		return result
	}
	for method, code := range map[string]string{
		wire.HostEmit: "", wire.HostLog: "", // always allowed
		"host.other": wire.CodeNotGranted, "host.broken": "internal",
	} {
		got := ask("c-"+method, method)
		if got.ID != "c-"+method || (got.Error == nil) != (code == "") || got.Error != nil && got.Error.Code != code {
			t.Errorf("%s: %+v, want code %q", method, got, code)
		}
		if code == "" && string(got.Result) != `{"a":1}` {
			t.Errorf("%s: result %s", method, got.Result)
		}
	}
	const many = 20
	answers := make(chan wire.HostResult, many)
	for i := range many {
		go func() { answers <- ask("b"+strconv.Itoa(i), "host.block") }()
	}
	for range many - 16 {
		if got := receive(t, "answer", answers); got.Error == nil || got.Error.Code != "busy" {
			t.Errorf("beyond the limit: %+v, want busy", got)
		}
	}
	close(release)
	for range 16 {
		if got := receive(t, "answer", answers); got.Error != nil {
			t.Errorf("within the limit: %+v", got)
		}
	}
	if n := blocked.Load(); n != 16 {
		t.Errorf("%d calls at once, want 16", n)
	}
}

// TestHostCallFlood drops what is faster than the limit.
func TestHostCallFlood(t *testing.T) {
	ready := make(chan *runner, 1)
	f, _, plan := setup(t, serving(ready, map[string]func([]byte) any{subject.Ping: func([]byte) any { return wire.Pong{Type: wire.TypePong} }}))
	var calls atomic.Int32
	f.OnHostCall = func(_ context.Context, _ plugin.Key, call wire.HostCall) wire.HostResult {
		calls.Add(1)
		return wire.HostResult{Result: call.Params}
	}
	in, err := start(t, f, plan)
	if err != nil {
		t.Fatal(err)
	}
	r := receive(t, "runner", ready)
	for i := range 1000 {
		r.publish(subject.Out(r.id, subject.Host), "", wire.HostCall{Type: wire.TypeHostCall, ID: strconv.Itoa(i), Method: wire.HostLog})
	}
	if err := in.Ping(t.Context()); err != nil {
		t.Errorf("Ping() after a flood = %v", err)
	}
	if n := calls.Load(); n > 250 {
		t.Errorf("%d of 1000 calls got through, want about 100", n)
	}
}

func TestNetworkTakesEffectLive(t *testing.T) {
	ready := make(chan *runner, 1)
	f, _, plan := setup(t, serving(ready, nil))
	recorded := make(chan egress.Connection, 8)
	f.OnConnection = func(k plugin.Key, c egress.Connection) error {
		if k != key {
			t.Errorf("a connection of %v", k)
		}
		recorded <- c
		return nil
	}
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	target := "127.0.0.1:" + strconv.Itoa(echo.Addr().(*net.TCPAddr).Port)
	in, err := start(t, f, plan)
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(source(specOf(t, f, in), "/run/ocmt"), "egress.sock")
	connect := func() (*bufio.Reader, net.Conn, string) {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		fmt.Fprintf(conn, "CONNECT %s\n", target)
		answer := bufio.NewReader(conn)
		line, _ := answer.ReadString('\n')
		return answer, conn, line
	}
	if _, _, line := connect(); !strings.HasPrefix(line, "DENIED not_granted") {
		t.Errorf("without a grant: %q", line)
	}
	if c := receive(t, "record", recorded); c.Phase != egress.PhaseDenied || c.Port == 0 {
		t.Errorf("recorded %+v", c)
	}
	policy, err := egress.NewPolicy(egress.Rule{
		Host: "127.0.0.1", Port: uint16(echo.Addr().(*net.TCPAddr).Port), Plaintext: true, AllowNonPublic: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	in.SetNetwork(policy)
	answer, conn, line := connect()
	if line != "OK\n" {
		t.Fatalf("with a grant: %q", line)
	}
	fmt.Fprintln(conn, "hello")
	if text, err := answer.ReadString('\n'); text != "hello\n" {
		t.Errorf("through the grant: %q, %v", text, err)
	}
	if c := receive(t, "record", recorded); c.Phase != egress.PhaseOpen {
		t.Errorf("recorded %+v", c)
	}
	in.SetNetwork(egress.Policy{})
	if text, err := answer.ReadString('\n'); err == nil {
		t.Errorf("after the grant: %q", text)
	}
	if c := receive(t, "record", recorded); c.Phase != egress.PhaseClose || c.BytesUp != 6 {
		t.Errorf("recorded %+v", c)
	}
	if _, _, line := connect(); !strings.HasPrefix(line, "DENIED not_granted") {
		t.Errorf("after the grant: %q", line)
	}
}

func TestPreviousLines(t *testing.T) {
	f, h, plan := setup(t, func(ctx context.Context, spec sandbox.Spec, out io.Writer) int {
		for i := range 2500 {
			fmt.Fprintln(out, i)
		}
		fmt.Fprint(out.(interface{ Stderr() io.Writer }).Stderr(), "last")
		return 7
	})
	if _, err := f.PreviousLines(key, sandbox.LogOptions{}); !errdefs.IsNotFound(err) || fault.Of(err).Hint == "" {
		t.Errorf("before any run: %v, want NotFound", err)
	}
	before := time.Now()
	in, err := start(t, f, plan)
	if fault.Of(err).Code != "plugin_exited" {
		t.Fatal(err)
	}
	if err := in.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	lines, err := f.PreviousLines(key, sandbox.LogOptions{})
	if err != nil || len(lines) != 2000 || lines[0].Line != "501" {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	if last := lines[1999]; last.Line != "last" || last.Stream != sandbox.Stderr || last.Time.Before(before) {
		t.Errorf("the last line is %+v", last)
	}
	if lines, err := f.PreviousLines(key, sandbox.LogOptions{Tail: 2, Since: before}); err != nil || len(lines) != 2 || lines[0].Line != "2499" {
		t.Errorf("the last two are %+v, %v", lines, err)
	}
	if lines, err := f.PreviousLines(key, sandbox.LogOptions{Since: time.Now().Add(time.Hour)}); err != nil || len(lines) != 0 {
		t.Errorf("of the future: %+v, %v", lines, err)
	}
	if err := os.WriteFile(h.PreviousLog(key), []byte("no JSON\n{\"half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if lines, err := f.PreviousLines(key, sandbox.LogOptions{}); err != nil || len(lines) != 2 || lines[0].Line != "no JSON" {
		t.Errorf("of another form: %+v, %v", lines, err)
	}
}
