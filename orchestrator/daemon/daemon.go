// Package daemon puts the program together: it opens the home, the store, the
// engine and the bus, wires supervisor, gateway and installer to them, serves
// the API, and takes everything down again in reverse. It holds no policy of
// its own.
package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/ocmt/ocmt/bus"
	"github.com/ocmt/ocmt/images"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/approval"
	"github.com/ocmt/ocmt/orchestrator/audit"
	"github.com/ocmt/ocmt/orchestrator/authority"
	"github.com/ocmt/ocmt/orchestrator/engine"
	"github.com/ocmt/ocmt/orchestrator/events"
	"github.com/ocmt/ocmt/orchestrator/gateway"
	"github.com/ocmt/ocmt/orchestrator/home"
	"github.com/ocmt/ocmt/orchestrator/hooks"
	"github.com/ocmt/ocmt/orchestrator/hosts"
	"github.com/ocmt/ocmt/orchestrator/install"
	"github.com/ocmt/ocmt/orchestrator/install/fetch"
	"github.com/ocmt/ocmt/orchestrator/install/seal"
	"github.com/ocmt/ocmt/orchestrator/instance"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
	"github.com/ocmt/ocmt/orchestrator/secrets"
	"github.com/ocmt/ocmt/orchestrator/services"
	"github.com/ocmt/ocmt/orchestrator/store"
	"github.com/ocmt/ocmt/orchestrator/supervisor"
	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/egress"
)

// Version is the release, set while linking.
var Version = "dev"

// shutdownTimeout bounds how long the plugins may take to end when the daemon
// is asked to.
const shutdownTimeout = 45 * time.Second

// Options say how to run a daemon. The zero value of each but Home is its
// default.
type Options struct {
	Home      string
	Socket    string // of the admin API; empty is the home's own
	Engine    string // see engine.Names
	Runtime   string // an OCI runtime of the engine
	BaseImage string // digest of an image of the operator's
	// CallSockets are other places for the call sockets of tenants.
	CallSockets map[string]string
	// Listen is a TCP address to serve callers with a token on, with TLS; empty
	// is none. The certificate and its key are PEM files.
	Listen, TLSCert, TLSKey string
	// Resolver is the DNS server, HOST:PORT, that names in plugins' connections are
	// looked up at; empty is the host's own.
	Resolver string
	// RequireRuntime names the OCI runtimes that plugins of a level of trust run
	// with: npm, archive, path, verified, or all.
	RequireRuntime map[string]string
	LogLevel       string // debug, info, warn or error
	Stderr         io.Writer
	// HandOver, when it is closed, ends the daemon as its context does, but
	// leaves the plugins running for the next one, which takes them over. It
	// may be nil.
	HandOver <-chan struct{}
}

// Daemon is a daemon that has everything but does not serve yet. Make it with
// Open.
type Daemon struct {
	opts        Options
	policy      supervisor.Policy // the zero value is the default
	started     time.Time
	logger      *slog.Logger
	home        home.Home
	store       *store.Store
	engine      sandbox.Engine
	info        sandbox.Info
	health      engineHealth
	before      string // the engine that was used before, if it may still run something of ours
	image       string
	bus         *bus.Server
	factory     *instance.Factory
	installer   *install.Installer
	catalog     *catalog
	audit       *audit.Log
	tokens      *tokens
	remote      net.Listener // with TLS; nil if there is none
	authority   *authority.Authority
	supervisor  *supervisor.Supervisor
	services    *services.Manager
	gateway     *gateway.Gateway
	hooks       *hooks.Pipeline
	handlers    *handlers
	generations *generations
	approvals   *approval.Broker
	hosts       *hosts.Registry
	events      *events.Hub
	secrets     *secrets.Store
	learning    *learning
	busy        *busy
	required    map[plugin.Trust]string // OCI runtimes that the operator requires
	resolver    egress.Resolver         // of plugins' connections; nil is the host's
	installed   chan struct{}           // holds one once something was installed
	stopping    <-chan struct{}         // closed when the daemon begins to stop; set by Serve
	undo        []func() error          // run backwards by Close

	leaving bool // the plugins are left to the next daemon; set before Close

	granting    sync.Mutex // held while secrets, or grants that may have to do with them, are changed
	configuring sync.Mutex // held while a config.json is changed or put into effect
}

// gcPercent has the heap grow by half before it is collected. With many
// plugins most of the memory is theirs and stays: the usual 100 would hold as
// much again for garbage. GOGC in the environment says otherwise.
const gcPercent = 50

// Run serves until ctx ends, and then takes everything down.
func Run(ctx context.Context, opts Options) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	// net/http prints there what a host sends beyond its answer, which may be a
	// secret that it was sent. What we have to say goes to our own logger.
	log.SetOutput(io.Discard)
	d, err := Open(ctx, opts)
	if err != nil {
		return err
	}
	serving, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-opts.HandOver:
			cancel()
		case <-serving.Done():
		}
	}()
	err = d.Serve(serving)
	d.leaving = ctx.Err() == nil && serving.Err() != nil
	return errors.Join(err, d.Close())
}

// Open makes a daemon: it takes the home's lock, checks the engine, loads the
// base image if need be, removes what a killed daemon left, and begins to
// start the installed plugins. After an error nothing is held.
func Open(ctx context.Context, opts Options) (*Daemon, error) {
	return open(ctx, opts, supervisor.Policy{})
}

func open(ctx context.Context, opts Options, restarts supervisor.Policy) (_ *Daemon, err error) {
	d := newDaemon(opts, restarts)
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if d.logger, err = newLogger(opts.Stderr, opts.LogLevel); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{
		d.openHome, d.openAudit, d.openTokens, d.openSecrets, d.openEngine, d.readOptions, d.openImages, d.openBus, d.wire, d.recover, d.startPlugins,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func newDaemon(opts Options, restarts supervisor.Policy) *Daemon {
	return &Daemon{
		opts: opts, policy: restarts, started: time.Now(), installed: make(chan struct{}, 1),
		handlers: newHandlers(), generations: newGenerations(), learning: newLearning(), busy: newBusy(),
	}
}

// Close takes everything down that Open made, in reverse.
func (d *Daemon) Close() error {
	var errs []error
	for i := len(d.undo) - 1; i >= 0; i-- {
		errs = append(errs, d.undo[i]())
	}
	d.undo = nil
	return errors.Join(errs...)
}

func (d *Daemon) onClose(f func() error) { d.undo = append(d.undo, f) }

func (d *Daemon) openHome(ctx context.Context) error {
	h, err := home.Open(d.opts.Home)
	if err != nil {
		return err
	}
	d.home = h
	lock, err := lockHome(h.Lock())
	if err != nil {
		return err
	}
	d.onClose(lock.Close)
	if d.store, err = store.Open(ctx, h.DB()); err != nil {
		return err
	}
	d.onClose(d.store.Close)
	return lock.claim(h, d.store.HomeID())
}

func (d *Daemon) openEngine(ctx context.Context) (err error) {
	last, err := d.store.Engine(ctx)
	if err != nil {
		return err
	}
	mounts, _ := seal.CanMount(d.home.Store()) // why not: see wireInstaller
	d.engine, d.info, err = engine.Open(ctx, engine.Options{
		Name: d.opts.Engine, Runtime: d.opts.Runtime, Last: last, Mounts: mounts,
		HomeID: d.store.HomeID(), Dir: d.home.Run(), Logger: d.logger,
	})
	if err != nil {
		return err
	}
	d.health.set(nil)
	d.logger.Info("using engine", "engine", d.info.Name, "version", d.info.Version, "runtime", d.runtime())
	if last == d.info.Name {
		return nil
	}
	if last != "" {
		d.leaveEngine(ctx, last)
	}
	return d.store.SetEngine(ctx, d.info.Name)
}

func (d *Daemon) runtime() string {
	if d.opts.Runtime != "" {
		return d.opts.Runtime
	}
	return d.info.Runtime
}

func (d *Daemon) openImages(ctx context.Context) (err error) {
	if d.image, _, err = imageDigests(d.opts.BaseImage); err != nil {
		return err
	}
	return ensureImage(ctx, d.engine, images.Base, d.image, logLoading(d.logger, images.Base))
}

func (d *Daemon) openBus(context.Context) (err error) {
	if d.bus, err = bus.New(bus.Options{Logger: d.logger}); err != nil {
		return err
	}
	d.onClose(func() error { d.bus.Shutdown(); return nil })
	return nil
}

// openAudit opens the audit log before anything is done that it should hold.
func (d *Daemon) openAudit(ctx context.Context) (err error) {
	if d.audit, err = audit.Open(ctx, audit.Options{Dir: d.home.Audit(), KeyDir: d.home.Keys(), Logger: d.logger}); err != nil {
		return err
	}
	d.onClose(d.audit.Close)
	rec := audit.Record{Actor: theDaemon, Action: "daemon.start", Target: d.home.Dir(), Outcome: outcomeDone, Details: map[string]string{"version": Version}}
	if err := d.audit.WriteSync(ctx, rec); err != nil {
		return errUnrecorded(err)
	}
	d.onClose(func() error {
		return d.audit.WriteSync(context.Background(), audit.Record{Actor: theDaemon, Action: "daemon.stop", Outcome: outcomeDone})
	})
	return nil
}

// wire connects the parts; see the picture in ARCHITECTURE.md.
func (d *Daemon) wire(ctx context.Context) (err error) {
	if d.catalog, err = loadCatalog(ctx, d.home, d.store); err != nil {
		return err
	}
	d.events = events.New(d.started)
	d.authority, err = authority.Load(ctx, authority.Config{
		Store: d.store, Plugins: d.catalog, Limits: policy.DefaultLimits, Changed: d.onPermissions, Expired: d.onExpired,
	})
	if err != nil {
		return err
	}
	if err := d.wireFactory(); err != nil {
		return err
	}
	d.services = services.New(services.Config{Escalate: d.escalate, Notify: d.onService, Logger: d.logger})
	d.onClose(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
		defer cancel()
		return d.services.Close(ctx)
	})
	d.supervisor = supervisor.New(supervisor.Config{Launcher: &launcher{d}, Store: d.store, Logger: d.logger, Policy: d.policy})
	d.onClose(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
		defer cancel()
		if d.leaving {
			return d.leavePlugins(ctx)
		}
		return d.supervisor.Shutdown(ctx)
	})
	d.onClose(d.learning.close) // before the plugins end
	d.gateway = gateway.New(gateway.Config{Plugins: servedPlugins{d}})
	d.approvals = approval.New(approval.Config{Changed: func(a v1.Approval) {
		d.events.Publish(a.Tenant, a.Plugin, v1.EventApproval, a)
	}})
	d.hosts = hosts.New()
	d.hooks = hooks.New(hooks.Config{
		Plugins: hooked{d}, Ask: d.ask, Resolved: d.resolveHook, Record: d.recordHook, Log: d.logger,
	})
	d.onClose(d.drainHooks) // before the plugins end
	return d.wireInstaller(ctx)
}

func (d *Daemon) wireFactory() error {
	_, installImage, err := imageDigests(d.opts.BaseImage)
	if err != nil {
		return err
	}
	d.factory = instance.NewFactory(instance.Config{
		Home: d.home, HomeID: d.store.HomeID(), Engine: d.engine, Info: d.info, Bus: d.bus,
		Image: d.image, InstallImage: installImage, Runtime: d.opts.Runtime, RuntimeOf: d.runtimeOf, UID: d.store.UID, TenantUID: d.store.TenantUID,
		View: func(key plugin.Key) (whole, own json.RawMessage, err error) {
			allowed := d.authority.Effective(key)
			given, err := d.deliver(key, allowed)
			if err != nil { // a start would say so; references stay references
				given = delivery{}
			}
			return d.view(key, allowed.Config, given)
		},
		EnsureInstallImage: func(ctx context.Context, progress func(done, total int64)) error {
			return ensureImage(ctx, d.engine, images.Install, installImage, progress)
		},
		CAFiles: fetch.HostCAFiles(os.Getenv), Resolver: d.resolver,
		OnConnection: d.onConnection, OnServiceHealth: d.onServiceHealth, OnHostCall: d.onHostCall,
		Logger: d.logger,
	})
	return nil
}

// startPlugins hands every installed plugin to the supervisor. A plugin whose
// counters or configuration cannot be read does not keep the others from
// starting.
func (d *Daemon) startPlugins(ctx context.Context) error {
	d.noteMissing(ctx)
	for _, p := range d.catalog.list("") {
		d.authority.Refresh(p.Key)
		if err := d.supervisor.Add(ctx, p.Key, d.catalog.enabled(p.Key)); err != nil {
			d.logger.Error("cannot start a plugin", "tenant", p.Key.Tenant, "plugin", p.Key.ID, "error", err)
		}
	}
	return nil
}
