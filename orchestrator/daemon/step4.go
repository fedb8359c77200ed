package daemon

import (
	"context"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// learnAPI implements httpapi.Learning.
type learnAPI struct{ d *Daemon }

// secretAPI implements httpapi.Secrets.
type secretAPI struct{ d *Daemon }

// networkAPI implements httpapi.Network.
type networkAPI struct{ d *Daemon }

func errNotImplemented() error {
	return fault.New(errdefs.ErrNotImplemented, "not_implemented", "this daemon cannot do that")
}

func (b learnAPI) Learn(context.Context, string, string, v1.LearnRequest) (v1.Learning, error) {
	return v1.Learning{}, errNotImplemented()
}

func (b learnAPI) Learning(context.Context, string, string) (v1.Learning, error) {
	return v1.Learning{}, errNotImplemented()
}

func (b secretAPI) Secrets(context.Context, string) ([]v1.Secret, error) {
	return nil, errNotImplemented()
}

func (b secretAPI) SetSecret(context.Context, string, string, v1.SetSecret) (v1.Secret, error) {
	return v1.Secret{}, errNotImplemented()
}

func (b secretAPI) RemoveSecret(context.Context, string, string) error { return errNotImplemented() }

func (b secretAPI) MoveSecret(context.Context, string, string, v1.MoveSecret) (v1.Secret, error) {
	return v1.Secret{}, errNotImplemented()
}

func (b secretAPI) RotateSecrets(context.Context) error { return errNotImplemented() }

func (b networkAPI) Connections(context.Context, string, v1.ConnectionQuery) ([]v1.Connection, error) {
	return nil, errNotImplemented()
}

func (b permissionAPI) GrantManifest(context.Context, string, string, v1.ManifestRequest) (v1.ManifestResult, error) {
	return v1.ManifestResult{}, errNotImplemented()
}
