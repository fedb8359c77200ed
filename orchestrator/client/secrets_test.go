package client_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/api/apitest"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

func TestSecrets(t *testing.T) {
	c, ctx := demo(t), t.Context()
	use := v1.SecretUse{Host: "api.example.com", Header: "X-Key"}
	set, err := c.SetSecret(ctx, "default", "KEY", v1.SetSecret{Value: "k", SecretUse: use})
	if err != nil || set.Name != "KEY" || set.Port != 443 || set.Header != "X-Key" {
		t.Errorf("set: %+v, %v", set, err)
	}
	moved, err := c.MoveSecret(ctx, "default", "demo", v1.MoveSecret{Path: "apiKey", Name: "MOVED", SecretUse: use})
	if err != nil || len(moved.Plugins) != 1 {
		t.Errorf("move: %+v, %v", moved, err)
	}
	list, err := c.Secrets(ctx, "default")
	if diff := cmp.Diff([]v1.Secret{set, moved}, list); diff != "" || err != nil {
		t.Errorf("list: %v\n%s", err, diff)
	}
	if list, err := c.Secrets(ctx, "acme"); err != nil || len(list) != 0 {
		t.Errorf("another tenant's: %+v, %v", list, err)
	}
	if err := c.RemoveSecret(ctx, "default", "KEY"); err != nil {
		t.Error(err)
	}
	if err := c.RemoveSecret(ctx, "default", "KEY"); !errdefs.IsNotFound(err) {
		t.Errorf("remove twice: %v", err)
	}
	if err := c.RotateSecrets(ctx); err != nil {
		t.Error(err)
	}
	if _, err := c.SetSecret(ctx, "default", "KEY", v1.SetSecret{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("empty: %v", err)
	}
}

func TestConnections(t *testing.T) {
	c, backend, ctx := demo(t), apitest.New(), t.Context()
	for _, tenant := range []string{"", "default", "acme"} {
		for _, q := range []v1.ConnectionQuery{
			{Limit: v1.DefaultConnections}, {Denied: true, Limit: 1}, {Since: apitest.Epoch.Add(time.Second), Limit: v1.MaxConnections},
		} {
			want, _ := backend.Connections(ctx, tenant, q)
			got, err := c.Connections(ctx, tenant, q)
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("connections of %q, %+v: %v\n%s", tenant, q, err, diff)
			}
		}
	}
	if list, err := c.Connections(ctx, "default", v1.ConnectionQuery{Plugin: "@scope/demo"}); err != nil || len(list) != 5 {
		t.Errorf("of demo: %d, %v", len(list), err)
	}
	if _, err := c.Connections(ctx, "default", v1.ConnectionQuery{Limit: v1.MaxConnections + 1}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("too many: %v", err)
	}
}

func TestLearn(t *testing.T) {
	c, ctx := demo(t), t.Context()
	if l, err := c.Learn(ctx, "default", "demo", v1.LearnRequest{On: true, ForSeconds: 60}); err != nil || !l.On || l.Until == nil {
		t.Errorf("on: %+v, %v", l, err)
	}
	l, err := c.Learning(ctx, "default", "demo")
	if err != nil || len(l.Wishes) != 2 || !json.Valid(l.Manifest) {
		t.Fatalf("while on: %+v, %v", l, err)
	}
	req := v1.ManifestRequest{Manifest: l.Manifest}
	if granted, err := c.GrantManifest(ctx, "default", "demo", req); err != nil || len(granted.Permissions) != 2 || !granted.Restarted {
		t.Errorf("grant: %+v, %v", granted, err)
	}
	if l, err := c.Learn(ctx, "default", "demo", v1.LearnRequest{}); err != nil || l.On {
		t.Errorf("off: %+v, %v", l, err)
	}
	if _, err := c.Learn(ctx, "acme", "metrics", v1.LearnRequest{On: true}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("of a disabled one: %v", err)
	}
}
