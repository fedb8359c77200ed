package hooks

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus/wire"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

func TestAsk(t *testing.T) {
	const question = `{"params":{"a":2},"requireApproval":{"title":"Go on?","timeoutMs":60000,"allowedDecisions":["allow-once"],"timeoutReason":"too late"}}`
	wait := func(ctx context.Context, _ Approval) (string, error) { <-ctx.Done(); return "", ctx.Err() }
	says := func(decision string, err error) func(context.Context, Approval) (string, error) {
		return func(context.Context, Approval) (string, error) { return decision, err }
	}
	tests := []struct {
		name     string
		ask      func(context.Context, Approval) (string, error)
		outcome  string
		decision string
		reason   string
	}{
		{"allowed", says(AllowOnce, nil), OutcomePass, AllowOnce, ""},
		{"not offered", says(AllowAlways, nil), OutcomeBlock, Cancelled, "Go on?"},
		{"nonsense", says("yes", nil), OutcomeBlock, Cancelled, "Go on?"},
		{"denied", says(Deny, nil), OutcomeBlock, Deny, "denied"},
		{"nobody decided", wait, OutcomeBlock, TimedOut, "too late"},
		{"nobody there", says("", errdefs.ErrUnavailable), OutcomeBlock, Cancelled, "nobody could be asked"},
		{"nobody at all", nil, OutcomeBlock, Cancelled, "nobody"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := plugins(t, toolCall, returns(question), returns(`{}`))
				var rec record
				var asked Approval
				var resolved []wire.Resolved
				cfg := Config{Plugins: m, Record: rec.write,
					Resolved: func(_ context.Context, key plugin.Key, m wire.Resolved) {
						if key.ID != "p0" {
							t.Errorf("%s was told", key)
						}
						resolved = append(resolved, m)
					}}
				if tt.ask != nil {
					cfg.Ask = func(ctx context.Context, a Approval) (string, error) { asked = a; return tt.ask(ctx, a) }
				}
				started := time.Now()
				res := emit(t, New(cfg), toolCall, `{"toolName":"rm","plugin":"disk","params":{"a":1}}`)
				if res.Outcome != tt.outcome || (tt.reason != "" && !strings.Contains(res.BlockedBy.Reason, tt.reason)) {
					t.Errorf("Emit() = %s by %+v", res.Outcome, res.BlockedBy)
				}
				if res.Approval == nil || res.Approval.Decision != tt.decision || len(resolved) != 1 || resolved[0].Decision != tt.decision || resolved[0].ID != m.calls[0].ID {
					t.Errorf("the decision is %+v, the plugin was told %+v", res.Approval, resolved)
				}
				if tt.ask != nil && (asked.Tool != "rm" || asked.Owner != "disk" || string(asked.Params) != `{"a":2}` || asked.Tenant != "default") {
					t.Errorf("a person was asked %+v", asked)
				}
				if took := time.Since(started); tt.name == "nobody decided" && took != time.Minute {
					t.Errorf("it took %s, want the approval's minute", took)
				}
				if !strings.Contains(rec.kinds(), EntryApproval) || strings.Contains(rec.kinds(), EntryBlock) != (tt.outcome == OutcomeBlock) {
					t.Errorf("recorded %q", rec.kinds())
				}
			})
		})
	}
}

func TestAskIsNotReached(t *testing.T) {
	ask := func(context.Context, Approval) (string, error) {
		t.Error("a person was asked")
		return AllowOnce, nil
	}
	question := returns(`{"requireApproval":{"title":"Go on?"}}`)
	for _, then := range []behaviour{returns(`{"block":true}`), reports(wire.CodeThrew)} {
		res := emit(t, New(Config{Plugins: plugins(t, toolCall, question, then), Ask: ask}), toolCall, `{}`)
		if res.Outcome != OutcomeBlock || res.BlockedBy.Key.ID != "p1" {
			t.Errorf("Emit() = %s by %+v", res.Outcome, res.BlockedBy)
		}
	}
}

func TestAskEndsWithTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		var told string
		p := New(Config{
			Plugins:  plugins(t, toolCall, returns(`{"requireApproval":{"title":"Go on?"}}`)),
			Ask:      func(ctx context.Context, _ Approval) (string, error) { <-ctx.Done(); return AllowOnce, nil },
			Resolved: func(_ context.Context, _ plugin.Key, m wire.Resolved) { told = m.Decision },
		})
		_, err := p.Emit(ctx, Request{Tenant: "default", Event: toolCall})
		if !errdefs.IsCanceled(err) || told != Cancelled {
			t.Errorf("Emit() = %v, the plugin was told %q", err, told)
		}
	})
}

func TestWordsOfTheAPI(t *testing.T) {
	enum := func(of any, field string) string {
		f, ok := reflect.TypeOf(of).FieldByName(field)
		if !ok {
			t.Fatalf("%T has no %s", of, field)
		}
		return f.Tag.Get("enum")
	}
	statuses := []string{StatusOK, StatusBlock, StatusClaim, StatusTimeout, StatusFailed, StatusDown, StatusCutOff, StatusNotGranted, StatusDropped, StatusSkipped}
	if got, want := strings.Join(statuses, ","), enum(v1.HandlerReport{}, "Status"); got != want {
		t.Errorf("the statuses are %s, the API's %s", got, want)
	}
	if got, want := strings.Join([]string{OutcomePass, OutcomeBlock, OutcomeClaim}, ","), enum(v1.EmitResult{}, "Outcome"); got != want {
		t.Errorf("the outcomes are %s, the API's %s", got, want)
	}
	if AllowOnce != v1.AllowOnce || AllowAlways != v1.AllowAlways || Deny != v1.Deny {
		t.Error("the decisions differ from the API's")
	}
}

// TestAskEndsWithTheEvent has a question end a little before the event does,
// since it had no more time than the event.
func TestAskEndsWithTheEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		p := New(Config{
			Plugins: plugins(t, toolCall, returns(`{"requireApproval":{"title":"Go on?"}}`)),
			Ask: func(context.Context, Approval) (string, error) {
				time.Sleep(time.Second - time.Millisecond)
				return TimedOut, nil
			},
		})
		if _, err := p.Emit(ctx, Request{Tenant: "default", Event: toolCall}); !errdefs.IsDeadlineExceeded(err) {
			t.Errorf("Emit() = %v, want DeadlineExceeded", err)
		}
	})
}
