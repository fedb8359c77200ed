package httpapi_test

import (
	"encoding/json"
	"strings"
	"testing"

	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

func TestLearnRoutes(t *testing.T) {
	s := serve(t, httpapi.Options{})
	const path = "/v1/tenants/default/plugins/demo/learn"
	for _, tc := range []struct {
		name, method, path, body string
		status                   int
		says                     string
	}{
		{"never on", "GET", path, "", 200, `{"on":false,"wishes":[]}`},
		{"off already", "POST", path, `{"on":false}`, 200, `"on":false`},
		{"on", "POST", path, `{"on":true,"forSeconds":60}`, 200, `"until":"2026-01-02T03:05:05Z"`},
		{"while on", "GET", path, "", 200, `"manifest":{`},
		{"off", "POST", path, `{"on":false}`, 200, `"manifest":{`},
		{"afterwards", "GET", path, "", 200, `"request":"request-1"`},
		{"not said", "POST", path, `{}`, 400, "on"},
		{"in the past", "POST", path, `{"on":true,"forSeconds":-1}`, 400, "forSeconds"},
		{"for long", "POST", path, `{"on":true,"forSeconds":86401}`, 400, "forSeconds"},
		{"disabled", "POST", "/v1/tenants/acme/plugins/metrics/learn", `{"on":true}`, 409, "not_enabled"},
		{"unknown", "GET", "/v1/tenants/default/plugins/nope/learn", "", 404, "plugin_not_found"},
	} {
		if res, text := s.do(t, tc.method, tc.path, tc.body); res.StatusCode != tc.status || !strings.Contains(text, tc.says) {
			t.Errorf("%s: %d %s, want %d, %s", tc.name, res.StatusCode, text, tc.status, tc.says)
		}
	}
}

func TestManifestRoute(t *testing.T) {
	s := serve(t, httpapi.Options{})
	const path = "/v1/tenants/default/plugins/demo/permissions/manifest"
	const manifest = `"manifest":{"network":[{"host":"api.example.net","ports":[443]}],"workspace":"ro"}`
	granted := func() bool {
		_, text := s.do(t, "GET", "/v1/tenants/default/plugins/demo/permissions", "")
		return strings.Contains(text, `"origin":"grant"`)
	}
	for _, tc := range []struct {
		name, body string
		status     int
		says       string
		granted    bool
	}{
		{"none", `{}`, 400, "manifest", false},
		{"no manifest", `{"manifest":"x"}`, 400, "object", false},
		{"bad manifest", `{"manifest":{"network":[{"host":"*","ports":[443]}]}}`, 400, "wildcard", false},
		{"dry run", `{"dryRun":true,` + manifest + `}`, 200, `"left":[{"kind":"workspace"`, false},
		{"granted", `{` + manifest + `}`, 200, `"restarted":false`, true},
	} {
		res, text := s.do(t, "POST", path, tc.body)
		if res.StatusCode != tc.status || !strings.Contains(text, tc.says) || granted() != tc.granted {
			t.Errorf("%s: %d %s, granted %v; want %d, %s, %v", tc.name, res.StatusCode, text, granted(), tc.status, tc.says, tc.granted)
		}
	}
	large := `{"manifest":{"x":"` + strings.Repeat("x", 2*v1.MaxSmallBody) + `"}}`
	if res, text := s.do(t, "POST", path, large); res.StatusCode != 400 || !strings.Contains(text, "too large") {
		t.Errorf("a large one: %d %s", res.StatusCode, text)
	}
}

// A permission that is allowed once is allowed for this run.
func TestPermissionForThisRun(t *testing.T) {
	for decision, origin := range map[string]string{v1.AllowOnce: "run", v1.AllowAlways: "approval"} {
		s := serve(t, httpapi.Options{})
		if res, text := s.do(t, "POST", "/v1/tenants/default/approvals/request-1", `{"decision":"`+decision+`"}`); res.StatusCode != 200 {
			t.Fatalf("%s: %d %s", decision, res.StatusCode, text)
		}
		_, text := s.do(t, "GET", "/v1/tenants/default/plugins/demo/permissions", "")
		var p v1.PluginPermissions
		if err := json.Unmarshal([]byte(text), &p); err != nil || p.Granted[len(p.Granted)-1].Origin != origin {
			t.Errorf("%s: %s, want origin %s (%v)", decision, text, origin, err)
		}
	}
}
