package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
)

const (
	kindRegistration = "registration"
	maxNamed         = 10 // registrations of a kind that a review names
)

// review shows what a plugin asks for and asks a person, until the answer is
// understood. The end of the input, or of ctx, cancels the install.
func (a *app) review(ctx context.Context, r v1.Review) string {
	marked := printReview(a.env.Stderr, r)
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
// person's yes.
func printReview(w io.Writer, r v1.Review) (marked int) {
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
		for _, text := range basicTexts(basic) {
			printItem(w, text)
		}
	}
	if len(sensitive) > 0 {
		fmt.Fprintln(w, "\nIt asks for this, which needs your yes:")
		for _, p := range sensitive {
			for i, line := range wrap(p.Sentence, textWidth-4) {
				fmt.Fprintln(w, []string{"  ! ", "    "}[min(i, 1)]+clean(line))
			}
		}
	}
	if len(later) > 0 {
		fmt.Fprintln(w, "\nIt asks for this too, which you can grant once it is installed:")
		printEach(w, later, askedText)
	}
	for _, d := range r.Diagnostics {
		fmt.Fprintf(w, "\n%s: %s\n", clean(d.Level), clean(d.Message))
	}
	return len(sensitive)
}

// basicTexts says what is granted unasked: a sentence for each, but for the
// registrations of a kind of which there are several.
func basicTexts(permissions []v1.Permission) []string {
	names := map[string][]string{} // by kind of registration
	for _, p := range permissions {
		if kind, name, ok := registered(p); ok {
			names[kind] = append(names[kind], name)
		}
	}
	var texts []string
	for _, p := range permissions {
		kind, name, ok := registered(p)
		switch {
		case !ok || len(names[kind]) == 1:
			texts = append(texts, p.Sentence)
		case name == names[kind][0]:
			texts = append(texts, fmt.Sprintf("It registers %s: %s.", count(len(names[kind]), kindNoun(kind)), firstOf(names[kind], maxNamed)))
		}
	}
	return texts
}

// registered returns the kind and the name of a registration.
func registered(p v1.Permission) (kind, name string, ok bool) {
	if p.Kind != kindRegistration {
		return "", "", false
	}
	kind, name, _ = strings.Cut(p.Target, ":")
	return kind, name, true
}

func kindNoun(kind string) string {
	switch kind {
	case "gatewayMethod":
		return "gateway method"
	case "httpRoute":
		return "HTTP route"
	case "command":
		return "chat command"
	case "cli":
		return "CLI command"
	}
	return kind
}

// firstOf names the first n, and how many more there are.
func firstOf(names []string, n int) string {
	if len(names) <= n {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s, and %d more", strings.Join(names[:n], ", "), len(names)-n)
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
	printEach(a.env.Stderr, permissions.Pending, askedText)
	fmt.Fprintf(a.env.Stderr, "see them again: %s\n", clean(command))
}
