package cli

import (
	"context"
	"fmt"
	"io"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
)

const (
	maxPending     = 5 // requests that are shown after an install
	maxDiagnostics = 8 // diagnostics that a review shows
)

// review shows what a plugin asks for and asks a person, until the answer is
// understood. The end of the input, or of ctx, cancels the install.
func (a *app) review(ctx context.Context, r v1.Review) string {
	marked := printReview(a.env.Stderr, r, forTenant("ocmt plugins permissions "+r.Plugin, a.tenant))
	if marked == 0 {
		return v1.AcceptBasic
	}
	for {
		fmt.Fprint(a.env.Stderr, "\nGrant what is marked with ! as well? (y = yes, n = install without it, c = cancel the install) [n] ")
		line, ok := a.stdin.next(ctx, a.env.Stdin)
		if !ok {
			fmt.Fprintln(a.env.Stderr)
			return v1.AcceptNone
		}
		switch answerOf(line) {
		case "y":
			return v1.AcceptAll
		case "n", "":
			return v1.AcceptBasic
		case "c":
			return v1.AcceptNone
		}
	}
}

// printReview prints what a review is about and returns how much of it needs a
// person's yes. The command shows later what it leaves out.
func printReview(w io.Writer, r v1.Review, command string) (marked int) {
	var basic, sensitive, later []v1.Permission
	for _, p := range r.Permissions {
		switch {
		case p.Command != "": // the answer does not decide it
			later = append(later, p)
		case p.Sensitive:
			sensitive = append(sensitive, p)
		default:
			basic = append(basic, p)
		}
	}
	fmt.Fprintf(w, "\n%s %s was loaded once, without network and without permissions.\n", clean(r.Name), clean(r.Version))
	if r.Update {
		fmt.Fprintln(w, "What it was granted before stays; this is new:")
	}
	if len(basic) > 0 {
		fmt.Fprintln(w, "\nIt gets with the install:")
		for _, g := range groups(basic) {
			printItem(w, "  - ", g.text())
		}
	}
	if len(sensitive) > 0 {
		fmt.Fprintln(w, "\nIt asks for this, which needs your yes:")
		for _, g := range groups(sensitive) {
			printItem(w, "  ! ", g.text())
		}
	}
	if len(later) > 0 {
		fmt.Fprintln(w, "\nIt asks for this too, which you can grant once it is installed:")
		printFirst(w, later, command)
	}
	printDiagnostics(w, r)
	return len(sensitive)
}

// sayPending says on standard error what an installed plugin asks for and was
// not granted: with the commands where nobody was asked.
func (a *app) sayPending(ctx context.Context, c *client.Client, p v1.PluginDetail, whole bool) {
	permissions, err := c.Permissions(ctx, a.tenant, p.ID)
	if err != nil {
		fmt.Fprintf(a.env.Stderr, "ocmt: cannot see what %s asks for: %s\n", clean(p.ID), indent(err.Error()))
		return
	}
	if len(permissions.Pending) == 0 {
		return
	}
	command := forTenant("ocmt plugins permissions "+p.ID, a.tenant)
	if !whole {
		fmt.Fprintf(a.env.Stderr, "%s of %s not granted: see %s\n", count(len(permissions.Pending), "request"), clean(p.ID), clean(command))
		return
	}
	fmt.Fprintf(a.env.Stderr, "%s asks for %s that it was not granted:\n", clean(p.ID), count(len(permissions.Pending), "permission"))
	printFirst(a.env.Stderr, permissions.Pending, command)
	if len(permissions.Pending) <= maxPending {
		fmt.Fprintf(a.env.Stderr, "see them again: %s\n", clean(command))
	}
}

// printFirst prints the first requests, and how many more there are with the
// command that shows them.
func printFirst(w io.Writer, pending []v1.Permission, command string) {
	shown := min(len(pending), maxPending)
	printEach(w, pending[:shown])
	if more := len(pending) - shown; more > 0 {
		fmt.Fprintf(w, "  and %d more: %s\n", more, clean(command))
	}
}

func printDiagnostics(w io.Writer, r v1.Review) {
	if len(r.Diagnostics) == 0 {
		return
	}
	fmt.Fprintln(w)
	shown := min(len(r.Diagnostics), maxDiagnostics)
	for _, d := range r.Diagnostics[:shown] {
		fmt.Fprintf(w, "%s: %s\n", clean(d.Level), clean(d.Message))
	}
	if more := len(r.Diagnostics) - shown; more > 0 {
		fmt.Fprintf(w, "and %d more, which \"ocmt plugins info %s\" shows once it is installed\n", more, clean(r.Plugin))
	}
}
