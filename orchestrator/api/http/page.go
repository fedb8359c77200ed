package httpapi

import (
	"context"
	"encoding/base64"
	"net/http"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// PageParam asks for a page of a list; see [TenantParam].
type PageParam struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"1000" doc:"items of the page"`
	Cursor string `query:"cursor" maxLength:"4096" doc:"where the page begins: next of the page before"`
}

type tenantPage struct {
	TenantParam
	PageParam
}

// listing describes the two operations that list something: of one tenant, and of
// all.
type listing[T, L any] struct {
	name  string // plural: the last part of the paths, and the tag
	items func(ctx context.Context, tenant string) ([]T, error)
	key   func(T) string // names an item among those of all tenants
	page  func(items []T, next string) L
}

func (l listing[T, L]) register(r *routes) {
	handle(r, op(AccessAdmin, http.MethodGet, "/v1/"+l.name, "list-all-"+l.name, "List the "+l.name+" of all tenants", l.name),
		func(ctx context.Context, in *PageParam) (*answer[L], error) { return l.answer(ctx, "", *in) })
	handle(r, op(AccessCall, http.MethodGet, tenantPath+"/"+l.name, "list-"+l.name, "List the "+l.name+" of a tenant", l.name),
		func(ctx context.Context, in *tenantPage) (*answer[L], error) {
			return l.answer(ctx, in.Tenant, in.PageParam)
		})
}

func (l listing[T, L]) answer(ctx context.Context, tenant string, in PageParam) (*answer[L], error) {
	items, err := l.items(ctx, tenant)
	if err != nil {
		return nil, err
	}
	items, next, err := page(items, in, l.key)
	if err != nil {
		return nil, err
	}
	return &answer[L]{l.page(orEmpty(items), next)}, nil
}

// page cuts the page out of items that in asks for. The cursor is the key of
// the last item before it, so that items which come or go elsewhere move
// nothing.
func page[T any](items []T, in PageParam, key func(T) string) (part []T, next string, err error) {
	if in.Cursor != "" {
		last, err := base64.RawURLEncoding.DecodeString(in.Cursor)
		if err != nil {
			return nil, "", fault.New(errdefs.ErrInvalidArgument, "invalid_cursor", "the cursor is not one of this API").
				WithHint("pass on what next held, or leave it out")
		}
		i := slices.IndexFunc(items, func(item T) bool { return key(item) == string(last) })
		if i < 0 {
			return nil, "", fault.New(errdefs.ErrConflict, "list_changed", "the item before this page is gone").
				WithHint("list again from the start, without a cursor")
		}
		items = items[i+1:]
	}
	if len(items) > in.Limit {
		items = items[:in.Limit]
		next = base64.RawURLEncoding.EncodeToString([]byte(key(items[len(items)-1])))
	}
	return items, next, nil
}

// orEmpty keeps null out of the answers.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
