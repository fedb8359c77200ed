package plugin

import (
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

func TestFindPermissions(t *testing.T) {
	tests := []struct {
		name           string
		pkg, mani, own string
		want           Permissions
		found          bool
		says           string
	}{
		{name: "none", pkg: `{"name": "a", "ocmt": {"other": 1}}`, mani: `{"id": "a"}`},
		{name: "nothing at all"},
		{name: "package.json", pkg: `{"ocmt": {"permissions": {"env": ["TZ"]}}}`, want: Permissions{Env: []string{"TZ"}}, found: true},
		{name: "manifest in JSON5", mani: `{id: 'a', ocmt: {permissions: {env: ['TZ',]}}}`, want: Permissions{Env: []string{"TZ"}}, found: true},
		{name: "own file", own: `{"env": ["TZ"]}`, want: Permissions{Env: []string{"TZ"}}, found: true},
		{name: "asks for nothing", own: `{}`, found: true},
		{name: "all three say the same", pkg: `{"ocmt": {"permissions": {"env": ["TZ", "LANG"]}}}`,
			mani: `{"ocmt": {"permissions": {"env": ["LANG", "TZ"]}}}`, own: `{"env": ["LANG", "TZ", "TZ"]}`,
			want: Permissions{Env: []string{"LANG", "TZ"}}, found: true},
		{name: "two differ", pkg: `{"ocmt": {"permissions": {"env": ["TZ"]}}}`, own: `{"env": []}`,
			says: "package.json and in ocmt.permissions.json differ"},
		{name: "bad in the manifest", mani: `{"ocmt": {"permissions": {"env": "TZ"}}}`, says: "openclaw.plugin.json: env"},
		{name: "empty file", own: ` `, says: "ocmt.permissions.json: the permissions are not JSON"},
		{name: "ocmt no object", pkg: `{"ocmt": true}`, says: "ocmt.permissions cannot be read"},
		{name: "null", pkg: `{"ocmt": {"permissions": null}}`, says: "must be an object, not null"},
		{name: "ocmt twice", pkg: `{"ocmt": {"permissions": {}}, "ocmt": {}}`, says: "ocmt is there twice"},
		{name: "permissions twice", pkg: `{"ocmt": {"permissions": {}, "permissions": {"env": ["TZ"]}}}`, says: "ocmt.permissions is there twice"},
		{name: "twice inside", mani: `{"ocmt": {"permissions": {"env": [], "env": ["TZ"]}}}`, says: "env is there twice"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, found, err := FindPermissions(Files{Package: bytesOf(tt.pkg), Manifest: bytesOf(tt.mani), Permissions: bytesOf(tt.own)})
			if tt.says != "" {
				if !errdefs.IsAborted(err) || !strings.Contains(err.Error(), tt.says) || fault.Of(err).Hint == "" {
					t.Errorf("got %v (hint %q), want the plugin's failure with %q and a hint", err, fault.Of(err).Hint, tt.says)
				}
				return
			}
			if err != nil || found != tt.found || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, %v, %v, want %+v, %v", got, found, err, tt.want, tt.found)
			}
		})
	}
}

func bytesOf(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}

func TestDescribePermissions(t *testing.T) {
	d, err := Describe(Files{
		Package: []byte(`{"name": "@a/brave-search", "main": "index.js"}`),
		Manifest: []byte(`{"id": "brave-search",
			"setup": {"providers": [{"id": "brave", "envVars": ["BRAVE_API_KEY", "NODE_OPTIONS", "not a name"]}]},
			"configContracts": {"secretInputs": {"paths": [{"path": "routes.*.secret"}, {"path": "webSearch.apiKey"}, {"path": ""}]}},
			"uiHints": {"webSearch.apiKey": {"sensitive": true}, "limit": {"label": "Limit"}, "odd": 3},
			"providerEndpoints": [{"hosts": ["api.brave.com", "169.254.169.254"], "hostSuffixes": [".search.example", "com"],
				"baseUrls": ["https://b.example:8443/v1", "http://c.example", "::"]}],
			"ocmt": {"permissions": {"network": [{"host": "api.brave.com"}]}}}`),
	}, ".", holds("index.js"))
	if err != nil {
		t.Fatal(err)
	}
	if want := (Permissions{Network: []Network{{Host: "api.brave.com", Ports: []uint16{443}}}}); !d.HasPermissions || !reflect.DeepEqual(d.Permissions, want) {
		t.Errorf("permissions = %+v, %v, want %+v", d.Permissions, d.HasPermissions, want)
	}
	want := []Wish{
		{WishEnv, "BRAVE_API_KEY", "setup.providers names it"},
		{WishNetwork, "*.search.example:443", "providerEndpoints names it"},
		{WishNetwork, "api.brave.com:443", "providerEndpoints names it"},
		{WishNetwork, "b.example:8443", "providerEndpoints names it"},
		{WishNetwork, "c.example:80", "providerEndpoints names it"},
		{WishNetwork, "search.example:443", "providerEndpoints names it"},
		{WishSecret, "BRAVE_SEARCH_ROUTES_SECRET", "its setting routes.*.secret is secret: configContracts.secretInputs"},
		{WishSecret, "BRAVE_SEARCH_WEB_SEARCH_API_KEY", "its setting webSearch.apiKey is secret: configContracts.secretInputs"},
	}
	if diff := cmp.Diff(want, d.Wishes); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if _, err := Describe(Files{Package: []byte(`{"name": "a", "main": "index.js"}`), Permissions: []byte(`{"env": ["PATH"]}`)}, ".", holds("index.js")); !errdefs.IsAborted(err) {
		t.Errorf("a manifest that asks for PATH: %v, want it refused", err)
	}
}

func TestVariableName(t *testing.T) {
	for in, want := range map[string]string{
		"brave.apiKey": "BRAVE_API_KEY", "a-b.c_d": "A_B_C_D", "x.APIKey": "X_APIKEY", "2fa.code": "_2FA_CODE", "..": "", "é.k": "K", "a.*.key2": "A_KEY2",
	} {
		if got := variableName(in); got != want {
			t.Errorf("variableName(%q) = %q, want %q", in, got, want)
		}
	}
}
