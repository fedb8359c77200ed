package daemon

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/ocmt/ocmt/bus/wire"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// TestReviewTellsOfOthers installs a plugin whose tool another one has too,
// and then a version of it that asks for less.
func TestReviewTellsOfOthers(t *testing.T) {
	s := newStage(t)
	first := s.install("first", script{registers: []wire.Registration{tool("echo")}})
	const asks = `{"id":"second","configSchema":{},"ocmt":{"permissions":{"env":["TZ"]}}}`
	s.play("second", script{registers: []wire.Registration{tool("echo"), tool("other")}, manifest: asks})
	notes := func(replace bool) []string {
		t.Helper()
		var seen []string
		req := s.request("second", "")
		req.Replace = replace
		req.Review = func(_ context.Context, r v1.Review) (httpapi.Answer, error) {
			for _, d := range r.Diagnostics {
				seen = append(seen, d.Message)
			}
			return httpapi.Answer{Accept: v1.AcceptAll, Actor: "uid:7"}, nil
		}
		if _, err := (pluginAPI{s.Daemon}).Install(operator(t.Context()), plugin.DefaultTenant, req, func(v1.Progress) {}); err != nil {
			t.Fatal(err)
		}
		return seen
	}
	says := func(notes []string, part string) bool {
		return slices.ContainsFunc(notes, func(n string) bool { return strings.Contains(n, part) })
	}
	if got := notes(false); !says(got, "plugin first has a tool echo too") || says(got, "other") {
		t.Errorf("the review says %q", got)
	}
	consent, err := s.store.Consent(t.Context(), plugin.Key{Tenant: plugin.DefaultTenant, ID: "second"})
	if err != nil || consent.Actor != "uid:7" {
		t.Errorf("recorded as agreed to by %q (%v), want who answered", consent.Actor, err)
	}
	tools, err := toolAPI{s.Daemon}.Tools(t.Context(), plugin.DefaultTenant)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, tool := range tools {
		got[tool.Plugin+"/"+tool.Name] = tool.Shadowed
	}
	want := map[string]string{first.ID + "/echo": "", "second/echo": first.ID, "second/other": ""}
	for name, by := range want {
		if shadow, listed := got[name]; !listed || shadow != by {
			t.Errorf("%s is listed %v, shadowed by %q, want %q", name, listed, shadow, by)
		}
	}
	s.play("second", script{registers: []wire.Registration{tool("echo"), tool("third")}, manifest: `{"id":"second","configSchema":{}}`})
	if got := notes(true); !says(got, "no longer asks for this, which it keeps if it was granted: It may read the environment variable TZ") {
		t.Errorf("the review of the update says %q", got)
	}
}
