package daemon

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"sync"

	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
)

// Modes of the sockets: the operator's is his alone, and so is a tenant's
// until it is given a place of its own, whose directory says who may come in.
const (
	adminMode       fs.FileMode = 0o600
	callMode        fs.FileMode = 0o600
	placedCallsMode fs.FileMode = 0o660
)

// Serve serves the API on the admin socket, on the call socket of every tenant
// and with TLS if that is asked for, follows the config.json files, lets grants
// expire, watches the engine, and verifies the payloads now and then, until ctx
// ends.
func (d *Daemon) Serve(ctx context.Context) error {
	socket := d.opts.Socket
	if socket == "" {
		socket = d.home.AdminSocket()
	}
	listener, err := httpapi.ListenUnix(ctx, socket, adminMode)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var background sync.WaitGroup
	defer background.Wait()
	defer cancel()          // also when serving failed by itself
	d.stopping = ctx.Done() // closed before the contexts of requests, which derive from it
	handler := d.handler()
	background.Go(func() { d.watchTenants(ctx, &background, handler) })
	background.Go(func() { d.serveRemote(ctx, handler) })
	background.Go(func() { d.verifyNowAndThen(ctx) })
	background.Go(func() { d.authority.Run(ctx) })
	background.Go(func() { d.tellStates(ctx) })
	background.Go(func() { d.watchEngine(ctx) })
	d.logger.Info("serving", "socket", socket, "home", d.home.Dir(), "version", Version)
	return httpapi.Serve(ctx, listener, handler, httpapi.Caller{Access: httpapi.AccessAdmin}, d.logger)
}

func (d *Daemon) handler() http.Handler {
	return httpapi.New(httpapi.Backend{
		System: system{d}, Plugins: pluginAPI{d}, Tools: toolAPI{d}, Hooks: hookAPI{d}, Services: serviceAPI{d},
		Permissions: permissionAPI{d}, Approvals: approvalAPI{d}, Events: eventAPI{d}, Hosts: hostAPI{d},
		TokenAdmin: tokenAPI{d}, Learning: learnAPI{d}, Secrets: secretAPI{d}, Network: networkAPI{d},
	}, httpapi.Options{Log: d.logger, UploadDir: d.home.Run(), Tokens: d.tokens})
}

// serveCalls serves the call socket of a tenant until ctx ends. Without it the
// tenant's hosts cannot call; everything else goes on.
func (d *Daemon) serveCalls(ctx context.Context, tenant string, handler http.Handler) {
	socket, mode := d.home.CallSocket(tenant), callMode
	if place, ok := d.opts.CallSockets[tenant]; ok {
		socket, mode = place, placedCallsMode
	}
	listener, err := httpapi.ListenUnix(ctx, socket, mode)
	if err == nil {
		err = httpapi.Serve(ctx, listener, handler, httpapi.Caller{Access: httpapi.AccessCall, Tenant: tenant}, d.logger)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		d.logger.Error("a tenant's call socket is not served", "tenant", tenant, "socket", socket, "error", err)
	}
}
