package httpapi_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/api/apitest"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

func TestNetworkRoutes(t *testing.T) {
	s := serve(t, httpapi.Options{})
	all := []string{"open api.example.com", "request api.example.com", "close api.example.com", "denied evil.example\x1b[2J", "denied "}
	for _, tc := range []struct {
		path string
		want []string
	}{
		{"/v1/network", append(all, "denied 169.254.169.254")},
		{"/v1/tenants/default/network", all},
		{"/v1/tenants/default/network?plugin=@scope/demo", all},
		{"/v1/tenants/default/network?denied=true", all[3:]},
		{"/v1/tenants/default/network?limit=2", all[3:]},
		{"/v1/tenants/default/network?since=2026-01-02T03:04:07Z", all[3:]},
		{"/v1/tenants/acme/network", []string{"denied 169.254.169.254"}},
		{"/v1/tenants/other/network", nil},
	} {
		res, text := s.do(t, "GET", tc.path, "")
		var list v1.ConnectionList
		if err := json.Unmarshal([]byte(text), &list); err != nil || res.StatusCode != 200 || list.Connections == nil {
			t.Fatalf("%s: %d %s", tc.path, res.StatusCode, text)
		}
		var got []string
		for _, c := range list.Connections {
			got = append(got, c.Phase+" "+c.Host)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", tc.path, diff)
		}
	}
	for path, status := range map[string]int{
		"/v1/tenants/default/network?limit=0":        400,
		"/v1/tenants/default/network?limit=5001":     400,
		"/v1/tenants/default/network?since=today":    400,
		"/v1/tenants/default/network?plugin=a%20b":   400,
		"/v1/tenants/A/network":                      400,
		"/v1/network?plugin=..%2Fdemo":               400,
		"/v1/tenants/default/network?plugin=metrics": 404,
	} {
		if res, text := s.do(t, "GET", path, ""); res.StatusCode != status {
			t.Errorf("%s: %d %s, want %d", path, res.StatusCode, text, status)
		}
	}
}

// Who may call in a tenant may read what its plugins reached, and learns nothing
// of secrets and learn mode.
func TestCallersReadTheNetworkLogAlone(t *testing.T) {
	call := serveParts(t, apitest.New().Parts(), httpapi.Caller{Access: httpapi.AccessCall, Tenant: "default"}, httpapi.Options{})
	const plugin = "/v1/tenants/default/plugins/demo"
	for _, tc := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/v1/tenants/default/network", "", 200},
		{"GET", "/v1/tenants/acme/network", "", 403},
		{"GET", "/v1/network", "", 403},
		{"GET", secretsPath, "", 403},
		{"PUT", secretsPath + "/KEY", `{"value":"x"}`, 403},
		{"DELETE", secretsPath + "/KEY", "", 403},
		{"POST", "/v1/secrets/rotate", "", 403},
		{"POST", plugin + "/secrets/move", `{"path":"apiKey","name":"KEY"}`, 403},
		{"GET", plugin + "/learn", "", 403},
		{"POST", plugin + "/learn", `{"on":true}`, 403},
		{"POST", plugin + "/permissions/manifest", `{"manifest":{}}`, 403},
	} {
		if res, text := call.do(t, tc.method, tc.path, tc.body); res.StatusCode != tc.status || tc.status == 403 && !strings.Contains(text, "permission_denied") {
			t.Errorf("%s %s: %d %s, want %d", tc.method, tc.path, res.StatusCode, text, tc.status)
		}
	}
}
