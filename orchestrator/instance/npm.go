package instance

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ocmt/ocmt/orchestrator/install/fetch"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/egress"
)

// installTimeout bounds one run of npm: a registry that drips bytes must not
// hold an install for ever.
const installTimeout = 15 * time.Minute

// outputKept is how much of npm's output is kept for error messages, bytes.
const outputKept = 64 << 10

// RunInstall runs npm in a throw-away container whose only way out is the
// registry; see [fetch.Runner].
func (f *Factory) RunInstall(ctx context.Context, job fetch.Job) (code int, output string, err error) {
	if err := f.ensureInstallImage(ctx, job.Report); err != nil {
		return 0, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, installTimeout)
	defer cancel()
	uid, err := f.TenantUID(ctx, job.Tenant)
	if err != nil {
		return 0, "", err
	}
	b := f.newBox("install", job.Tenant, uid)
	defer func() { err = errors.Join(err, b.close(ctx)) }()
	sockets, err := f.openEgress(ctx, b, job.Registry)
	if err != nil {
		return 0, "", err
	}
	mounts := []sandbox.Mount{sockets, {Source: job.WorkDir, Target: fetch.WorkTarget}}
	if job.CABundle != "" {
		mounts = append(mounts, sandbox.Mount{Source: job.CABundle, Target: fetch.CATarget, ReadOnly: true})
	}
	exit, output, err := f.runBox(ctx, b, sandbox.Spec{
		Image: f.InstallImage, Args: append([]string{initPath, "run", "--"}, job.Args...), Env: job.Env,
		Dir: fetch.WorkTarget, Mounts: mounts,
		Limits: sandbox.LimitsFor(sandbox.RoleInstall).Fit(f.Info),
		Tmpfs:  []sandbox.Tmpfs{{Target: "/tmp", Size: 256 << 20, Mode: 0o1777}},
	}, sandbox.RoleInstall, job.Output)
	return exit.Code, output, err
}

// ensureInstallImage makes the image usable and reports the loading, if there
// is any, in MiB.
func (f *Factory) ensureInstallImage(ctx context.Context, report fetch.Report) error {
	var loaded atomic.Int64 // the engine's client may still read when it returns
	err := f.EnsureInstallImage(ctx, func(done, total int64) {
		if mib := done >> 20; loaded.Swap(mib) != mib {
			report("loading the image that npm runs in, MiB", mib, total>>20)
		}
	})
	if err == nil && loaded.Load() > 0 {
		report("starting npm", 0, 0)
	}
	return err
}

// Clean removes what an install's container left below dir, with the rights of
// whom it belongs to.
func (f *Factory) Clean(ctx context.Context, dir string) error {
	uid, err := ownerWithin(dir)
	if err != nil || uid == 0 {
		return err
	}
	return f.clean(ctx, plugin.DefaultTenant, dir, uid)
}

// ownerWithin returns the first user but ours that something in dir belongs to,
// 0 if there is none.
func ownerWithin(dir string) (uint32, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, fmt.Errorf("cannot look at what an install left: %w", err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			continue // gone meanwhile
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
			return st.Uid, nil
		}
	}
	return 0, nil
}

// clean runs ocmt-init's clean in a container with dir mounted.
func (f *Factory) clean(ctx context.Context, tenant, dir string, uid uint32) (err error) {
	b := f.newBox("clean", tenant, uid)
	defer func() { err = errors.Join(err, b.close(ctx)) }()
	exit, output, err := f.runBox(ctx, b, sandbox.Spec{
		Image: f.Image, Args: []string{initPath, "clean", "/clean"}, Env: []string{"HOME=/"},
		Mounts: []sandbox.Mount{{Source: dir, Target: "/clean"}},
		Limits: sandbox.LimitsFor(sandbox.RoleClean).Fit(f.Info),
	}, sandbox.RoleClean, io.Discard)
	if err == nil && exit.Code != 0 {
		err = fmt.Errorf("cannot clean %s: %s: %s", dir, describeExit(exit), output)
	}
	return err
}

// box is a throw-away container and what was made for it.
type box struct {
	id     string
	tenant string
	dir    string
	uid    uint32
	undo   []func(context.Context) error
}

func (f *Factory) newBox(what, tenant string, uid uint32) *box {
	var r [4]byte
	_, _ = rand.Read(r[:]) // never fails
	id := "ocmt-" + what + "-" + hex.EncodeToString(r[:])
	b := &box{id: id, tenant: tenant, dir: f.Home.Instance(id), uid: uid}
	b.onClose(func(context.Context) error { return removeTree(b.dir) })
	return b
}

func (b *box) onClose(u func(context.Context) error) { b.undo = append(b.undo, u) }

func (b *box) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	var errs []error
	for i := len(b.undo) - 1; i >= 0; i-- {
		errs = append(errs, b.undo[i](ctx))
	}
	return errors.Join(errs...)
}

// openEgress makes the box's socket directory with a broker behind it that
// grants the registry alone. Its connections belong to no plugin yet.
func (f *Factory) openEgress(ctx context.Context, b *box, registry fetch.Endpoint) (sandbox.Mount, error) {
	rule := egress.Rule{Host: registry.Host, Port: uint16(registry.Port), Plaintext: registry.Plaintext, AllowNonPublic: true}
	policy, err := egress.NewPolicy(rule)
	if err != nil {
		return sandbox.Mount{}, err
	}
	dir := f.Home.SocketDir(b.id)
	b.onClose(func(context.Context) error { return os.RemoveAll(dir) })
	logger := f.Logger.With("tenant", b.tenant, "container", b.id)
	broker, err := f.serveEgress(ctx, plugin.Key{Tenant: b.tenant}, dir, egress.Options{Logger: logger}, b.onClose)
	if err != nil {
		return sandbox.Mount{}, err
	}
	broker.SetPolicy(policy)
	return f.mountSealed(dir, filepath.Join(b.dir, "run"), socketDir)
}

// runBox creates and starts the container, follows its output, and returns
// how it ended with the end of what it printed.
func (f *Factory) runBox(ctx context.Context, b *box, spec sandbox.Spec, role string, out io.Writer) (sandbox.Exit, string, error) {
	etc := filepath.Join(b.dir, "etc")
	files, err := writeEtc(etc, b.uid)
	if err == nil {
		_, err = f.mountSealed(etc, etc, "/etc")
	}
	if err != nil {
		return sandbox.Exit{}, "", err
	}
	spec.ID, spec.UID, spec.GID, spec.Runtime = b.id, b.uid, b.uid, f.Runtime
	spec.Mounts = append(spec.Mounts, files...)
	spec.Labels = f.labels(b.tenant, b.id, role)
	b.onClose(func(ctx context.Context) error { return f.Engine.Remove(ctx, b.id) })
	if err := f.Engine.Create(ctx, sandbox.Harden(spec)); err != nil {
		return sandbox.Exit{}, "", fmt.Errorf("cannot create the %s container: %w", role, err)
	}
	if err := f.Engine.Start(ctx, b.id); err != nil {
		return sandbox.Exit{}, "", fmt.Errorf("cannot start the %s container: %w", role, err)
	}
	tail := &tailWriter{limit: outputKept}
	var following sync.WaitGroup
	following.Go(func() {
		err := f.Engine.Logs(ctx, b.id, sandbox.LogOptions{Follow: true}, io.MultiWriter(tail, out))
		if err != nil && ctx.Err() == nil {
			f.Logger.Warn("cannot follow the output of a container", "container", b.id, "error", err)
		}
	})
	exit, err := f.Engine.Wait(ctx, b.id)
	following.Wait()
	return exit, tail.String(), err
}

// tailWriter keeps the last limit bytes that were written to it.
type tailWriter struct {
	mu    sync.Mutex
	limit int
	kept  []byte
}

func (w *tailWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kept = append(w.kept, p...)
	if over := len(w.kept) - w.limit; over > 0 {
		w.kept = append(w.kept[:0], w.kept[over:]...)
	}
	return len(p), nil
}

func (w *tailWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.kept)
}
