package client

import (
	"context"
	"errors"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client/gen"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// Review shows a person what an install asks for and returns the answer, one
// of v1's Accept*. Its ctx ends when the install does without waiting for it
// any longer. Its error gives the install up.
type Review func(ctx context.Context, review v1.Review) (accept string, err error)

// Install installs a plugin and calls progress, which may be nil, for every
// step. If req does not carry Accept, review is asked at most once, in another
// goroutine; without a review an install that asks is given up. When ctx ends
// the daemon gives up too, without a trace.
func (c *Client) Install(ctx context.Context, tenant string, req v1.InstallRequest, progress func(v1.Progress), review Review) (v1.PluginDetail, error) {
	return c.install(ctx, tenant, gen.InstallPlugin(tenant, req), progress, review)
}

// Reinstall gets an installed plugin once more, whatever its state, and starts
// it if it is enabled. It is reviewed if its files are others than before;
// progress and review are as of [Client.Install].
func (c *Client) Reinstall(ctx context.Context, tenant, ref string, req v1.ReinstallRequest, progress func(v1.Progress), review Review) (v1.PluginDetail, error) {
	return c.install(ctx, tenant, gen.ReinstallPlugin(tenant, ref, req), progress, review)
}

func (c *Client) install(ctx context.Context, tenant string, request gen.Request[gen.Stream], progress func(v1.Progress), review Review) (v1.PluginDetail, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	on := func(name string, data []byte) error {
		switch {
		case name == v1.EventProgress && progress != nil:
			var step v1.Progress
			if err := decode(name, data, &step); err != nil {
				return err
			}
			progress(step)
		case name == v1.EventReview:
			var r v1.Review
			if err := decode(name, data, &r); err != nil {
				return err
			}
			if review == nil {
				return fault.New(errdefs.ErrFailedPrecondition, "review_unanswered", "%s asks for permissions, and nobody is there to answer", r.Plugin).
					WithHint("answer beforehand: set \"accept\"")
			}
			go func() {
				if err := c.review(ctx, tenant, r, review); err != nil {
					cancel(&givenUp{err})
				}
			}()
		}
		return nil
	}
	detail, err := follow[v1.PluginDetail](ctx, c, request, on)
	var why *givenUp
	if err != nil && errors.As(context.Cause(ctx), &why) {
		return detail, why.error
	}
	return detail, err
}

// givenUp says why an install was given up on this side.
type givenUp struct{ error }

// review asks and sends the answer. An answer that comes too late, or second, is
// no error: the install tells what became of it.
func (c *Client) review(ctx context.Context, tenant string, r v1.Review, review Review) error {
	accept, err := review(ctx, r)
	if err != nil {
		return err
	}
	_, err = do(ctx, c, gen.AnswerReview(tenant, r.ID, v1.ReviewAnswer{Digest: r.Digest, Accept: accept}))
	if errdefs.IsNotFound(err) || errdefs.IsConflict(err) {
		return nil
	}
	return err
}
