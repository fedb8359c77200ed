package httpapi

import (
	"context"
	"net/http"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

func (a *api) learnRoutes(r *routes) {
	const tag, path = "learn", pluginPath + "/learn"
	handle(r, op(AccessAdmin, http.MethodGet, path, "get-learning", "What a plugin's learn mode has found out", tag), a.learning)
	learn := op(AccessAdmin, http.MethodPost, path, "learn", "Switch a plugin's learn mode on or off", tag)
	learn.Description = "Restarts the plugin if it runs. In learn mode nothing more is allowed than otherwise: all that it tries and is not granted " +
		"is noted, and told of as events."
	handle(r, learn, a.learn)
}

func (a *api) learning(ctx context.Context, in *PluginParam) (*answer[v1.Learning], error) {
	l, err := a.backend.Learning.Learning(ctx, in.Tenant, in.ID)
	return &answer[v1.Learning]{withWishes(l)}, err
}

type learnInput struct {
	PluginParam
	Body v1.LearnRequest
}

func (a *api) learn(ctx context.Context, in *learnInput) (*answer[v1.Learning], error) {
	l, err := a.backend.Learning.Learn(ctx, in.Tenant, in.ID, in.Body)
	return &answer[v1.Learning]{withWishes(l)}, err
}

func withWishes(l v1.Learning) v1.Learning {
	l.Wishes = orEmpty(l.Wishes)
	return l
}
