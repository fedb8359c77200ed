package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"

	"github.com/ocmt/ocmt/e2e/harness"
)

// The plugins of a turn: one marks messages as they come, the other has the
// tools, asks about calls and marks messages as they go.
const (
	incoming = "conformance-seed-esm"
	outgoing = "conformance-register-esm"
)

// callSocket is the socket of the tenant's hosts.
func callSocket(d *harness.Daemon) string {
	return filepath.Join(d.Home, "ocmt", "tenants", tenant, "call.sock")
}

// TestTurn has the example hosts, in Go and in TypeScript, drive an agent's
// turn with the rights of a host: a message's hook, a call that tells how far
// it is, one that is cancelled, one that is approved, and one that calls the
// host.
func TestTurn(t *testing.T) {
	d := start(t)
	install(t, d, incoming, "--accept-permissions")
	install(t, d, outgoing, "--accept-permissions")
	t.Run("Go", func(t *testing.T) {
		program := filepath.Join(t.TempDir(), "turn")
		execute(t, "", "go", "build", "-o", program, "../orchestrator/client/examples/turn")
		driveTurn(t, d, 1, "ask-me hello", program)
	})
	t.Run("TypeScript", func(t *testing.T) {
		dir, node := typeScript(t)
		driveTurn(t, d, 2, "ask-me hello [seen by "+incoming+"]", node, filepath.Join(dir, "examples", "turn.ts"))
	})
	t.Run("agent in TypeScript", func(t *testing.T) {
		dir, node := typeScript(t)
		out := execute(t, "", node, filepath.Join(dir, "examples", "agent.ts"), callSocket(d), tenant, outgoing)
		for _, want := range []string{
			`tool ` + incoming + ` echo "echo of ` + incoming + `"`, `tool ` + outgoing + ` slow "slow of ` + outgoing + `"`,
			`result {"text":"hello"}`, `hook pass {"text":"hello [seen by ` + incoming + `]"}`, `changed by ` + incoming + `: /text`,
		} {
			if !slices.Contains(strings.Split(out, "\n"), want) {
				t.Errorf("the agent did not print %s:\n%s", want, out)
			}
		}
	})
}

// execute runs a program to its end and returns what it printed.
func execute(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // our own program
	cmd.Dir = dir
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, &out, &errs)
	}
	return out.String()
}

// driveTurn runs the nth host over the daemon and looks at what it printed,
// and at what is left of it.
func driveTurn(t *testing.T, d *harness.Daemon, nth int, approved, name string, args ...string) {
	t.Helper()
	lines := strings.Split(execute(t, "", name, append(args, callSocket(d), tenant, outgoing)...), "\n")
	emits := outgoing + ` emits {"done":true}` // before or after the call that did it has returned
	if i := slices.Index(lines, emits); i < 0 {
		t.Errorf("the host was not called:\n%s", strings.Join(lines, "\n"))
	} else {
		lines = slices.Delete(lines, i, i+1)
	}
	want := []string{
		`agent:message:before pass {"text":"hello [seen by ` + incoming + `]"}`,
		`slow update {"step":1,"steps":4}`, `slow update {"step":2,"steps":4}`,
		`slow update {"step":3,"steps":4}`, `slow update {"step":4,"steps":4}`,
		`slow done {"waited":200}`,
		`slow cancelled null`,
		`echo asks A call that asks "allow-once"`,
		`echo done {"text":"` + approved + `"}`,
		`emit done {"sent":true}`,
		`message_sending pass {"content":"bye [seen by ` + outgoing + `]","to":"someone"}`,
		``,
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("the turn went otherwise (-want +got):\n%s", diff)
	}
	eventually(t, 10*time.Second, "the plugin gave up the call that was cancelled", func() bool { return aborted(t, d) == nth })
	noApprovals(t, connect(t, d))
	if records := audited(t, d, "approval.call", outgoing); len(records) != nth || records[nth-1]["outcome"] != v1.AllowOnce {
		t.Errorf("the audit log holds the approvals %v", records)
	}
}

// aborted counts the calls of slow that were aborted in the plugin.
func aborted(t *testing.T, d *harness.Daemon) int {
	t.Helper()
	return strings.Count(run(t, d, 0, nil, "plugins", "logs", outgoing), "slow aborted")
}

// typeScript returns a copy of the TypeScript client with what it depends on,
// and a node that runs it. It skips the test where these cannot be had.
func typeScript(t *testing.T) (dir, node string) {
	t.Helper()
	missing := func(format string, args ...any) {
		if os.Getenv("E2E_REQUIRE") != "" {
			t.Fatalf(format, args...)
		}
		t.Skipf(format, args...)
	}
	root, err := harness.Root()
	if err != nil {
		t.Fatal(err)
	}
	find := func(name string) string { // `make tools` puts that of the images there
		path, err := exec.LookPath(filepath.Join(root, "bin", "tools", name))
		if err != nil {
			path, err = exec.LookPath(name)
		}
		if err != nil {
			missing("there is no %s: %v", name, err)
		}
		return path
	}
	node = find("node")
	if err := exec.CommandContext(t.Context(), node, "-e", "process.exit(process.features.typescript ? 0 : 1)").Run(); err != nil { //nolint:gosec // node
		missing("%s does not run TypeScript as it is; node 24 does", node)
	}
	dir = t.TempDir()
	source := filepath.Join(root, "orchestrator", "client", "typescript")
	for _, pattern := range []string{"*.ts", "*.json", "examples/*.ts"} {
		files, err := filepath.Glob(filepath.Join(source, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no %s in the TypeScript client: %v", pattern, err)
		}
		for _, file := range files {
			name, err := filepath.Rel(source, file)
			target := filepath.Join(dir, name)
			if err := errors.Join(err, os.MkdirAll(filepath.Dir(target), 0o700), copyFile(file, target)); err != nil {
				t.Fatal(err)
			}
		}
	}
	npm := exec.CommandContext(t.Context(), find("npm"), "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline") //nolint:gosec // npm
	npm.Dir = dir
	npm.Env = append(os.Environ(), "PATH="+filepath.Dir(node)+string(os.PathListSeparator)+os.Getenv("PATH"))
	if out, err := npm.CombinedOutput(); err != nil {
		missing("npm ci: %v\n%s", err, out)
	}
	return dir, node
}

// TestHangingUp has clients leave in the middle of all that takes time: the
// plugins are told, and nothing waits for them any more.
func TestHangingUp(t *testing.T) {
	d := start(t)
	install(t, d, incoming, "--accept-permissions")
	install(t, d, outgoing, "--accept-permissions")
	looker := connect(t, d)
	noApprovals(t, looker)
	before := descriptors(t, d)
	for _, tc := range []struct {
		name string
		// begin does something that takes long, and calls leave when it is time
		// to; its error is that of the client.
		begin func(ctx context.Context, t *testing.T, c *client.Client, leave func()) error
		// follows says that leaving is how it ends, and no error.
		follows bool
	}{
		{"call", hangUpCall, false},
		{"stream", hangUpStream, false},
		{"call that asks", hangUpAsked, false},
		{"emit", hangUpEmit, false},
		{"emit that asks", hangUpEmitAsked, false},
		{"events", hangUpEvents, true},
		{"attach", hangUpAttach, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := client.New(callSocket(d))
			defer c.Close()
			ctx, leave := context.WithTimeout(t.Context(), 20*time.Second)
			defer leave()
			begun := time.Now()
			if err := tc.begin(ctx, t, c, leave); tc.follows && err != nil || !tc.follows && !errdefs.IsCanceled(err) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("it took %s", took)
			}
			noApprovals(t, looker)
		})
	}
	t.Run("half a request", func(t *testing.T) {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", callSocket(d))
		if err != nil {
			t.Fatal(err)
		}
		_, err = fmt.Fprintf(conn, "POST /v1/tenants/%s/plugins/%s/tools/echo/call HTTP/1.1\r\nHost: ocmt\r\n"+
			"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"params\":", tenant, outgoing)
		if err = errors.Join(err, conn.Close()); err != nil {
			t.Error(err)
		}
	})
	eventually(t, 10*time.Second, "both slow calls were aborted in the plugin", func() bool { return aborted(t, d) == 2 })
	var seen struct{ Resolutions []string }
	eventually(t, 10*time.Second, "the plugin was told that nobody decided", func() bool {
		invoke(t, looker, &seen, outgoing, "seen", `{}`)
		return slices.Equal(seen.Resolutions, []string{"cancelled", "cancelled"})
	})
	looker.Close()
	eventually(t, 10*time.Second, fmt.Sprintf("the daemon has not more than %d files open", before), func() bool { return descriptors(t, d) <= before })
	invoke(t, looker, nil, outgoing, "emit", `{"event":"afterwards"}`) // no host is attached: nobody is waited for
	if i := getInfo(t, d, outgoing); i.State != "running" || i.Restarts != 0 {
		t.Errorf("the plugin is %s after %d restarts", i.State, i.Restarts)
	}
}

// descriptors counts the daemon's open files: one for every connection.
func descriptors(t *testing.T, d *harness.Daemon) int {
	t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.PID()))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// underWay is how long it takes at most until a call has got to the plugin:
// gVisor's system calls are slow where it traces them.
func underWay() time.Duration {
	if harness.RuntimeName() == "runsc" {
		return 4 * time.Second
	}
	return 500 * time.Millisecond
}

func hangUpCall(ctx context.Context, t *testing.T, c *client.Client, leave func()) error {
	t.Helper()
	time.AfterFunc(underWay(), leave)
	_, err := c.Call(ctx, tenant, outgoing, "slow", v1.CallRequest{Params: json.RawMessage(`{"ms":60000}`), TimeoutMillis: 90_000})
	return err
}

func hangUpStream(ctx context.Context, t *testing.T, c *client.Client, leave func()) error {
	t.Helper()
	_, err := c.Stream(ctx, tenant, outgoing, "slow", v1.CallRequest{Params: json.RawMessage(`{"ms":2000}`)},
		client.Watch{Update: func(json.RawMessage) { leave() }})
	return err
}

func hangUpAsked(ctx context.Context, t *testing.T, c *client.Client, leave func()) error {
	t.Helper()
	var question v1.Approval
	_, err := c.Stream(ctx, tenant, outgoing, "echo", v1.CallRequest{Params: json.RawMessage(`{"text":"ask-me"}`)},
		client.Watch{Ask: func(a v1.Approval) { question = a; leave() }})
	noApprovals(t, c) // not before: it might still be approved
	if _, rerr := c.Resolve(t.Context(), tenant, question.ID, v1.AllowOnce); !errdefs.IsFailedPrecondition(rerr) {
		t.Errorf("it was approved after its caller left: %v", rerr)
	}
	return err
}

func hangUpEmit(ctx context.Context, t *testing.T, c *client.Client, leave func()) error {
	t.Helper()
	time.AfterFunc(underWay(), leave)
	_, err := c.Emit(ctx, tenant, "agent:message:before", v1.EmitRequest{Payload: json.RawMessage(`{"text":"hang-me"}`)})
	return err
}

func hangUpEmitAsked(ctx context.Context, t *testing.T, c *client.Client, leave func()) error {
	t.Helper()
	looking := make(chan struct{})
	go func() {
		defer close(looking)
		defer leave()
		for ctx.Err() == nil {
			if list, err := c.Approvals(ctx, tenant); err == nil && len(list) > 0 {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	_, err := c.Emit(ctx, tenant, "before_tool_call", v1.EmitRequest{Payload: json.RawMessage(`{"toolName":"x","params":{"text":"ask-me"}}`)})
	<-looking
	return err
}

func hangUpEvents(ctx context.Context, t *testing.T, c *client.Client, leave func()) error {
	t.Helper()
	return c.Events(ctx, v1.EventQuery{Tenant: tenant, Follow: true}, func(v1.Event) error {
		leave()
		return nil
	})
}

// hangUpAttach leaves while the host is being asked something.
func hangUpAttach(ctx context.Context, t *testing.T, c *client.Client, leave func()) error {
	t.Helper()
	host, err := c.Attach(ctx, tenant, "leaving", []string{v1.HostEmit}, func(ctx context.Context, m v1.HostMessage) (json.RawMessage, error) {
		if m.Method == v1.HostEmit {
			leave()
			<-ctx.Done()
		}
		return nil, ctx.Err()
	})
	if err != nil {
		return err
	}
	invoke(t, c, nil, outgoing, "emit", `{"event":"answer me"}`)
	return host.Wait()
}
