package client_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/api/apitest"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

func TestTokens(t *testing.T) {
	c, ctx := demo(t), t.Context()
	for _, req := range []v1.CreateTokenRequest{
		{Access: v1.TokenCall, Tenant: "acme", Name: "agent", ForSeconds: 60},
		{Access: v1.TokenAdmin},
		{Access: v1.TokenCall, Tenant: "default"},
	} {
		made, err := c.CreateToken(ctx, req)
		if err != nil || made.Secret == "" || made.Access != req.Access || made.Tenant != req.Tenant || made.Name != req.Name ||
			(made.ExpiresAt != nil) != (req.ForSeconds > 0) {
			t.Errorf("create %+v: %+v, %v", req, made, err)
		}
	}
	if _, err := c.CreateToken(ctx, v1.CreateTokenRequest{Access: v1.TokenCall}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a token of no tenant: %v, want InvalidArgument", err)
	}
	for tenant, want := range map[string][]string{"": {"token-1", "token-2", "token-3"}, "acme": {"token-1", "token-2"}} {
		tokens, err := c.Tokens(ctx, tenant)
		var got []string
		for _, token := range tokens {
			got = append(got, token.ID)
		}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("tokens of %q: %v, -want +got:\n%s", tenant, err, diff)
		}
	}
	if token, err := c.RevokeToken(ctx, "token-1"); err != nil || token.Name != "agent" {
		t.Errorf("revoke: %+v, %v", token, err)
	}
	if _, err := c.RevokeToken(ctx, "token-1"); !errdefs.IsNotFound(err) {
		t.Errorf("revoke again: %v, want NotFound", err)
	}
}

// oneToken admits its holder to the tenant default.
type oneToken string

func (o oneToken) Lookup(_ context.Context, token string) (httpapi.Caller, error) {
	if token != string(o) {
		return httpapi.Caller{}, errdefs.ErrNotFound
	}
	return httpapi.Caller{Actor: "token:1", Access: httpapi.AccessCall, Tenant: "default"}, nil
}

func TestNewTLS(t *testing.T) {
	server := httptest.NewTLSServer(httpapi.New(apitest.New().Parts(), httpapi.Options{Tokens: oneToken("good"), UploadDir: t.TempDir()}))
	defer server.Close()
	address, roots := strings.TrimPrefix(server.URL, "https://"), x509.NewCertPool()
	roots.AddCert(server.Certificate())

	c, ctx := client.NewTLS(address, "good", roots), t.Context()
	defer c.Close()
	if tools, err := c.Tools(ctx, "default"); err != nil || len(tools) == 0 {
		t.Errorf("tools: %v, %v", tools, err)
	}
	if _, err := c.Tools(ctx, "acme"); !errdefs.IsPermissionDenied(err) {
		t.Errorf("tools of another tenant: %v, want PermissionDenied", err)
	}
	attached, cancel := context.WithCancel(ctx)
	host, err := c.Attach(attached, "default", "test", nil, func(context.Context, v1.HostMessage) (json.RawMessage, error) { return nil, nil })
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := host.Wait(); err != nil {
		t.Errorf("the host ended with %v", err)
	}

	bad := client.NewTLS(address, "bad", roots)
	defer bad.Close()
	if _, err := bad.Version(ctx); !errdefs.IsUnauthorized(err) || fault.Of(err).Hint == "" {
		t.Errorf("a bad token: %v, want Unauthenticated with a hint", err)
	}
	stranger := client.NewTLS(address, "good", x509.NewCertPool())
	defer stranger.Close()
	if _, err := stranger.Version(ctx); fault.Of(err).Code != "untrusted_certificate" || !errdefs.IsUnavailable(err) {
		t.Errorf("an unknown certificate: %v", err)
	}
}

// The token goes to nobody else, whatever the server answers.
func TestTLSFollowsNoRedirect(t *testing.T) {
	asked := false
	other := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer other.Close()
	server := httptest.NewTLSServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	c := client.NewTLS(strings.TrimPrefix(server.URL, "https://"), "good", roots)
	defer c.Close()
	if _, err := c.Version(t.Context()); !errdefs.IsUnavailable(err) || asked {
		t.Errorf("a redirect: %v, asked: %v", err, asked)
	}
}
