package client

import (
	"context"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/client/gen"
)

// listAttempts is how often a list is begun that changed while it was read.
const listAttempts = 3

// list reads all pages of a list: of all tenants for "", else of one.
func list[T, L any](ctx context.Context, c *Client, tenant string, all, one func(cursor *string) gen.Request[L], items func(L) (page []T, next string)) ([]T, error) {
	request := one
	if tenant == "" {
		request = all
	}
	var err error
	for range listAttempts {
		var whole []T
		if whole, err = pages(ctx, c, request, items); !errdefs.IsConflict(err) {
			return whole, err
		}
	}
	return nil, err
}

// pages reads a list from its start. It is Conflict if the item between two
// pages went away meanwhile.
func pages[T, L any](ctx context.Context, c *Client, request func(cursor *string) gen.Request[L], items func(L) (page []T, next string)) ([]T, error) {
	whole := []T{}
	var cursor *string
	for {
		answer, err := do(ctx, c, request(cursor))
		if err != nil {
			return nil, err
		}
		page, next := items(answer)
		whole = append(whole, page...)
		if next == "" {
			return whole, nil
		}
		cursor = &next
	}
}
