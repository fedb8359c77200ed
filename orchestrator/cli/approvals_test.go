package cli

import (
	"testing"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

func TestApprovals(t *testing.T) {
	d := newDaemon(t)
	out, _ := d.ocmt(t, 0, "approvals", "list")
	want := `ID         KIND        PLUGIN  EXPIRES  WHAT
request-1  permission  demo    -        demo asks to connect to api.example.net, port 443
`
	if out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	out, _ = d.ocmt(t, 0, "approvals", "list", "-A", "--json")
	contains(t, out, `"id": "request-1"`)
	// Of several, those before one that cannot be answered are.
	out, errout := d.ocmt(t, 3, "approvals", "approve", "request-1", "nope")
	contains(t, out, "granted by uid:", ": demo asks to connect to api.example.net, port 443\n")
	contains(t, errout, `there is no approval "nope"`)
	_, errout = d.ocmt(t, 1, "approvals", "approve", "request-1")
	contains(t, errout, "ocmt: the approval request-1 was resolved with allow-always\n")
	_, errout = d.ocmt(t, 2, "approvals", "approve", "request-1", "--once", "--always")
	contains(t, errout, "--once and --always do not go together")
	_, errout = d.ocmt(t, 3, "approvals", "deny", "nope")
	contains(t, errout, `there is no approval "nope"`)
	if out, _ = d.ocmt(t, 0, "approvals", "list"); out != "nothing waits for a person\n" {
		t.Errorf("got %q", out)
	}
}

// A permission is granted for good or for this run, a call is allowed once or
// always.
func TestApprove(t *testing.T) {
	for _, tc := range []struct{ id, flag, want, decision string }{
		{"request-1", "", "granted by uid:", v1.AllowAlways},
		{"request-1", "--always", "granted by uid:", v1.AllowAlways},
		{"request-1", "--once", "allowed for this run by uid:", v1.AllowOnce},
		{"call-1", "", "allowed by uid:", v1.AllowOnce},
		{"call-1", "--once", "allowed by uid:", v1.AllowOnce},
		{"call-1", "--always", "always allowed by uid:", v1.AllowAlways},
	} {
		d := newDaemon(t)
		var call command
		done, asked := make(chan int), call.stderr.saw("demo asks: Run ask?")
		go func() { done <- call.run(t.Context(), d, "tools", "call", "demo", "ask", "--progress") }()
		<-asked
		args := []string{"approvals", "approve", tc.id}
		if tc.flag != "" {
			args = append(args, tc.flag)
		}
		out, _ := d.ocmt(t, 0, args...)
		contains(t, out, tc.want)
		events, _ := d.ocmt(t, 0, "events", "--json")
		contains(t, events, `"decision":"`+tc.decision+`"`)
		if tc.id != "call-1" {
			d.ocmt(t, 0, "approvals", "deny", "call-1")
		}
		<-done
	}
}
