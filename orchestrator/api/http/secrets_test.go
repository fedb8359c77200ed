package httpapi_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/api/apitest"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

const secretsPath = "/v1/tenants/default/secrets"

func TestSecretRoutes(t *testing.T) {
	backend := apitest.New()
	s := serveParts(t, backend.Parts(), httpapi.Caller{Access: httpapi.AccessAdmin}, httpapi.Options{})
	for _, tc := range []struct {
		name, method, path, body string
		status                   int
		says                     string
	}{
		{"sent", "PUT", secretsPath + "/API_KEY", `{"value":"k-1","host":"api.example.com","header":"X-Key"}`, 200, `"port":443`},
		{"in plain", "PUT", secretsPath + "/PLAIN", `{"value":"k-2","env":true}`, 200, `"env":true`},
		{"of a tenant", "PUT", "/v1/tenants/acme/secrets/API_KEY", `{"value":"k-3"}`, 200, `"plugins":[]`},
		{"moved", "POST", "/v1/tenants/default/plugins/demo/secrets/move", `{"path":"apiKey","name":"MOVED","host":"api.example.com","query":"key"}`, 200, `"plugins":["demo"]`},
		{"moved onto another", "POST", "/v1/tenants/default/plugins/demo/secrets/move", `{"path":"apiKey","name":"PLAIN"}`, 409, "secret_exists"},
		{"moved from nowhere", "POST", "/v1/tenants/default/plugins/demo/secrets/move", `{"path":"nope","name":"X"}`, 404, "config_key_not_found"},
		{"moved without a path", "POST", "/v1/tenants/default/plugins/demo/secrets/move", `{"path":"","name":"X"}`, 400, "path"},
		{"empty", "PUT", secretsPath + "/EMPTY", `{"value":""}`, 400, "is empty"},
		{"no value", "PUT", secretsPath + "/EMPTY", `{}`, 400, "value"},
		{"huge", "PUT", secretsPath + "/HUGE", `{"value":"` + strings.Repeat("k", v1.MaxSecret+1) + `"}`, 400, "16384 bytes"},
		{"larger than a body", "PUT", secretsPath + "/HUGE", `{"value":"` + strings.Repeat("k", v1.MaxSmallBody) + `"}`, 400, "too large"},
		{"several lines", "PUT", secretsPath + "/LINES", `{"value":"k-4\nk-5"}`, 400, "several lines"},
		{"wide host", "PUT", secretsPath + "/WIDE", `{"value":"k-6","host":"*.com","header":"X-Key"}`, 400, "many owners"},
		{"no port", "PUT", secretsPath + "/PORT", `{"value":"k-7","host":"api.example.com","port":65536}`, 400, "port"},
		{"long name", "PUT", secretsPath + "/" + strings.Repeat("N", 129), `{"value":"k-8"}`, 400, "secret"},
		{"removed", "DELETE", secretsPath + "/PLAIN", "", 204, ""},
		{"removed twice", "DELETE", secretsPath + "/PLAIN", "", 404, "secret_not_found"},
		{"rotated", "POST", "/v1/secrets/rotate", "", 204, ""},
	} {
		if res, text := s.do(t, tc.method, tc.path, tc.body); res.StatusCode != tc.status || !strings.Contains(text, tc.says) {
			t.Errorf("%s: %d %s, want %d, %q", tc.name, res.StatusCode, text, tc.status, tc.says)
		}
	}
	if got := backend.SecretValue("default", "API_KEY"); got != "k-1" {
		t.Errorf("the value is %q", got)
	}
	if got := backend.Rotated(); got != 1 {
		t.Errorf("rotated %d times, want once", got)
	}
	for query, want := range map[string][]string{"": {"API_KEY", "MOVED"}, "?limit=1": {"API_KEY"}} {
		_, text := s.do(t, "GET", secretsPath+query, "")
		var list v1.SecretList
		if err := json.Unmarshal([]byte(text), &list); err != nil || strings.Contains(text, "k-") {
			t.Fatalf("%s (%v)", text, err)
		}
		var got []string
		for _, secret := range list.Secrets {
			got = append(got, secret.Name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("list%s: -want +got\n%s", query, diff)
		}
	}
}

// A value is in no answer, no error and no log, whatever is wrong with the
// request, and it is not kept for a repetition of the request.
func TestSecretValuesAreNotTold(t *testing.T) {
	const value = "hunter2-hunter2"
	backend := apitest.New()
	s := serveParts(t, backend.Parts(), httpapi.Caller{Access: httpapi.AccessAdmin}, httpapi.Options{})
	for _, body := range []string{
		`{"value":"` + value + `"}`,
		`{"value":"` + value + `\n"}`,
		`{"value":"` + value + `","host":"*.com","header":"X"}`,
		`{"value":["` + value + `"]}`,
		`{"value":{"` + value + `":1}}`,
		`{"value":"` + value + `","port":"https"}`,
		`{"value":"` + value + `","hots":"x"}`,
		`{"value":"` + value,
		`"` + value + `"`,
		`["` + value + `"]`,
		value,
	} {
		if _, text := s.do(t, "PUT", secretsPath+"/KEY", body); strings.Contains(text, "hunter2") {
			t.Errorf("%s is answered with %s", body, text)
		}
	}
	for i := range 2 {
		body := fmt.Sprintf(`{"value":"%s-%d"}`, value, i)
		res, text := s.do(t, "PUT", secretsPath+"/KEY", body, "Idempotency-Key", "one")
		if res.StatusCode != 200 || res.Header.Get(v1.IdempotencyReplayed) != "" || backend.SecretValue("default", "KEY") != fmt.Sprintf("%s-%d", value, i) {
			t.Errorf("request %d with the same key: %d %s", i, res.StatusCode, text)
		}
	}
	if strings.Contains(s.log.String(), "hunter2") {
		t.Errorf("the log says %s", s.log)
	}
	set := v1.SetSecret{Value: value, SecretUse: v1.SecretUse{Host: "api.example.com"}}
	log := &lockedBuffer{}
	slog.New(slog.NewJSONHandler(log, nil)).Info("set", "secret", set)
	for _, text := range []string{log.String(), fmt.Sprint(set), fmt.Sprintf("%+v %#v", set, set), fmt.Sprintf("%v", []any{struct{ Body v1.SetSecret }{set}})} {
		if strings.Contains(text, value) || !strings.Contains(text, "api.example.com") {
			t.Errorf("it is printed as %s", text)
		}
	}
}
