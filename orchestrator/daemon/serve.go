package daemon

import (
	"context"
	"sync"

	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
)

// Serve answers on the admin socket, follows the tenants' config.json files
// and verifies payloads now and then, until ctx ends.
func (d *Daemon) Serve(ctx context.Context) error {
	socket := d.opts.Socket
	if socket == "" {
		socket = d.home.AdminSocket()
	}
	listener, err := httpapi.ListenUnix(ctx, socket, 0o600)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var background sync.WaitGroup
	defer background.Wait()
	defer cancel()          // also when serving failed by itself
	d.stopping = ctx.Done() // closed before the contexts of requests, which derive from it
	background.Go(func() { d.watchConfigs(ctx, &background) })
	background.Go(func() { d.verifyNowAndThen(ctx) })
	handler := httpapi.New(httpapi.Backend{System: system{d}, Plugins: plugins{d}, Tools: tools{d}},
		httpapi.Options{Log: d.logger, UploadDir: d.home.Run()})
	d.logger.Info("serving", "socket", socket, "home", d.home.Dir(), "version", Version)
	return httpapi.Serve(ctx, listener, handler, d.logger)
}
