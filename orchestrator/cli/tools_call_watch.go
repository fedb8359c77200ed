package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
)

// watchCall runs a call and shows on standard error what happens meanwhile.
// With canAsk a person is asked what the call asks for.
func (a *app) watchCall(ctx context.Context, c *client.Client, canAsk bool, call func(client.Watch) (v1.CallResult, error)) (v1.CallResult, error) {
	ctx, cancel := context.WithCancel(ctx)
	p := newProgress(a.env.Stderr, a.env.IsTerminal(a.env.Stderr), false)
	q := &questions{open: make(map[string]context.CancelFunc)}
	defer func() {
		cancel()
		q.asked.Wait() // they end with ctx
		p.finish()
	}()
	return call(client.Watch{
		Update: func(update json.RawMessage) { p.show(v1.Progress{Stage: updateText(update)}) },
		Ask: func(approval v1.Approval) {
			switch {
			case approval.Decision != "":
				if q.close(approval.ID) {
					fmt.Fprintln(a.env.Stderr) // ends the line of the question
				}
				p.warn(decisionText(approval))
			case canAsk:
				p.say(a.approvalText(approval))
				q.ask(ctx, approval.ID, func(open context.Context) {
					decision := a.decide(open, p, approval)
					if q.close(approval.ID); decision == "" {
						return
					}
					// A call that ended meanwhile had the answer.
					if _, err := c.Resolve(ctx, a.tenant, approval.ID, decision); err != nil && ctx.Err() == nil {
						p.warn(err.Error())
					}
				})
			default:
				p.say(a.approvalText(approval))
			}
		},
	})
}

// questions are those that wait for an answer: one is asked at a time, and
// taken back once it was answered elsewhere.
type questions struct {
	asked sync.WaitGroup
	turn  sync.Mutex

	mu   sync.Mutex
	open map[string]context.CancelFunc // by approval
}

// ask asks a question about an approval; its context ends when close is called.
func (q *questions) ask(ctx context.Context, id string, question func(open context.Context)) {
	ctx, cancel := context.WithCancel(ctx)
	q.mu.Lock()
	q.open[id] = cancel
	q.mu.Unlock()
	q.asked.Go(func() {
		defer cancel()
		q.turn.Lock()
		defer q.turn.Unlock()
		question(ctx)
	})
}

// close takes a question back and reports whether it was open.
func (q *questions) close(id string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	cancel, ok := q.open[id]
	if ok {
		cancel()
		delete(q.open, id)
	}
	return ok
}

// decide asks until it understands the answer, which it returns, or until ctx
// or the input ends, which is no decision.
func (a *app) decide(ctx context.Context, p *progress, approval v1.Approval) string {
	for ctx.Err() == nil {
		p.ask(decisionQuestion(approval))
		line, ok := a.stdin.next(ctx, a.env.Stdin)
		if !ok {
			return ""
		}
		decision := map[string]string{"y": v1.AllowOnce, "a": v1.AllowAlways, "n": v1.Deny}[answerOf(line)]
		if slices.Contains(approval.Decisions, decision) {
			return decision
		}
	}
	return ""
}

func decisionQuestion(approval v1.Approval) string {
	var ways []string
	for _, way := range []struct{ decision, text string }{
		{v1.AllowOnce, "y = yes, this once"}, {v1.AllowAlways, "a = always"}, {v1.Deny, "n = no"},
	} {
		if slices.Contains(approval.Decisions, way.decision) {
			ways = append(ways, way.text)
		}
	}
	return "Allow it? (" + strings.Join(ways, ", ") + ")"
}

// updateText is an interim result on one line.
func updateText(update json.RawMessage) string {
	text, ok := resultText(update)
	if !ok {
		text = compact(update)
	}
	return shorten(strings.Join(strings.Fields(text), " "), progressWidth)
}

// approvalText says what is asked, and how to answer.
func (a *app) approvalText(approval v1.Approval) []string {
	lines := []string{fmt.Sprintf("%s asks: %s", approval.Plugin, approval.Title)}
	for _, line := range strings.Split(approval.Description, "\n") {
		if line != "" {
			lines = append(lines, "  "+line)
		}
	}
	if approval.Severity != "" {
		lines = append(lines, "  severity: "+approval.Severity)
	}
	if len(approval.Params) > 0 {
		lines = append(lines, "  parameters: "+shorten(compact(approval.Params), 400))
	}
	if approval.ExpiresAt != nil {
		lines = append(lines, "  refused unless allowed by "+instant(*approval.ExpiresAt))
	}
	return append(lines, "  to answer elsewhere: "+forTenant("ocmt approvals approve "+approval.ID, approval.Tenant)+", or deny")
}

// say prints lines that stay.
func (p *progress) say(lines []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	for _, line := range lines {
		fmt.Fprintln(p.w, clean(line))
	}
}

// ask prints a question and leaves the line open for the answer.
func (p *progress) ask(question string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	fmt.Fprint(p.w, clean(question)+" ")
}
