package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

// show prints the wishes that are new and, if it is to, asks about each.
func (l *learner) show(ctx context.Context, wishes []v1.Permission) {
	for _, w := range l.unseen(wishes) {
		l.print(w)
		if l.flags.ask && ctx.Err() == nil {
			l.ask(ctx, w)
		}
	}
}

// unseen returns the wishes that were not shown, and counts them as shown.
func (l *learner) unseen(wishes []v1.Permission) []v1.Permission {
	var list []v1.Permission
	for _, w := range wishes {
		if key := strings.Join([]string{w.Kind, w.Target, w.Value}, "\x00"); !l.seen[key] {
			l.seen[key] = true
			list = append(list, w)
		}
	}
	return list
}

// print shows a wish, and the command that grants it.
func (l *learner) print(w v1.Permission) {
	printItem(l.app.env.Stderr, "  - ", w.Sentence)
	fmt.Fprintf(l.app.env.Stderr, "      %s\n", clean(askedText(w)))
}

// say prints a remark beside the results.
func (l *learner) say(format string, args ...any) {
	for _, line := range wrap(fmt.Sprintf(format, args...), textWidth) {
		fmt.Fprintln(l.app.env.Stderr, clean(line))
	}
}

// wishAnswer is what a person may say to a wish.
type wishAnswer struct{ letter, word, text, decision string }

// wishAnswers are all there are; the last is to do nothing.
var wishAnswers = []wishAnswer{
	{"o", "once", "o = allow it for this run", v1.AllowOnce},
	{"g", "grant", "g = grant it", v1.AllowAlways},
	{"d", "deny", "d = deny it", v1.Deny},
	{"s", "skip", "s = skip it", ""},
}

// ask has a person decide about a wish. At the end of the input nothing is asked
// any more.
func (l *learner) ask(ctx context.Context, w v1.Permission) {
	if w.Request == "" {
		return // it lacks a detail: the command grants it
	}
	answers := wishAnswers
	if w.Kind != kindNetwork && w.Kind != kindHook {
		answers = answers[1:]
	}
	var texts []string
	for _, a := range answers {
		texts = append(texts, a.text)
	}
	for {
		fmt.Fprintf(l.app.env.Stderr, "    %s [s] ", strings.Join(texts, ", "))
		line, ok := l.app.stdin.next(ctx, l.app.env.Stdin)
		if !ok {
			fmt.Fprintln(l.app.env.Stderr)
			l.flags.ask = false
			return
		}
		said := answerOf(line)
		i := slices.IndexFunc(answers, func(a wishAnswer) bool { return said == a.letter || said == a.word })
		switch {
		case said == "" || i == len(answers)-1:
			return
		case i >= 0:
			l.decide(ctx, w.Request, answers[i].decision)
			return
		}
	}
}

// decide answers a request. What goes wrong with one does not end the others.
func (l *learner) decide(ctx context.Context, request, decision string) {
	approval, err := l.client.Resolve(ctx, l.app.tenant, request, decision)
	if err != nil {
		printError(l.app.env.Stderr, err, l.app.tenant)
		return
	}
	fmt.Fprintf(l.app.env.Stderr, "    %s\n", clean(decisionText(approval)))
}
