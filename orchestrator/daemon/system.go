package daemon

import (
	"context"
	"os"
	"runtime"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

// system answers the API's questions about the daemon.
type system struct{ d *Daemon }

// Version implements httpapi.System.
func (b system) Version(context.Context) v1.Version {
	return v1.Version{Version: Version, API: "v1", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
}

// Status implements httpapi.System. It asks no engine and no plugin, so that
// it answers whatever they do.
func (b system) Status(ctx context.Context, tenant string) (v1.Status, error) {
	list, err := pluginAPI(b).List(ctx, tenant)
	engine := v1.Engine{Name: b.d.info.Name, Version: b.d.info.Version, Runtime: b.d.runtime()}
	b.d.health.show(&engine)
	return v1.Status{
		Version: b.Version(ctx), PID: os.Getpid(), StartedAt: b.d.started,
		Home: b.d.home.Dir(), HomeID: b.d.store.HomeID(),
		Engine: engine, Image: b.d.image, Plugins: list, Pending: b.d.permissionRequests(tenant),
		Notes: append(b.d.catalog.broken(), b.d.info.Warnings...),
	}, err
}
