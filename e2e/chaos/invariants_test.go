package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// invariants are what must hold again after every fault. docs/recovery.md
// lists them by the same names.
var invariants = []struct {
	name  string // in reports and in the docs
	says  string
	check func(*rig, context.Context) []string
}{
	{"answers", "every enabled plugin runs and answers its tool", (*rig).checkAnswers},
	{"one", "never, at no moment, did two containers of one plugin run", (*rig).checkOne},
	{"owned", "no container, mount, socket directory, instance directory or process is without a plugin that owns it", (*rig).checkOwned},
	{"counted", "the restarts that are counted are those that there were", (*rig).checkCounted},
	{"recorded", "`ocmt audit verify` finds the audit log whole", (*rig).checkRecorded},
	{"bounded", "the daemon holds no more descriptors, threads and memory than before", (*rig).checkBounded},
	{"stopped", "a plugin that was disabled is stopped, and nothing of it runs", (*rig).checkStopped},
}

// settleTime is how long an invariant may take to hold again once the plugins
// answer: what is left of an instance that ended is removed behind its
// successor's back.
const settleTime = 20 * time.Second

// violations returns what does not hold once it had the time to.
func (r *rig) violations(ctx context.Context) []string {
	var all []string
	for _, inv := range invariants {
		deadline := time.Now().Add(settleTime)
		for {
			broken := inv.check(r, ctx)
			if len(broken) == 0 {
				break
			}
			if inv.name == "one" || time.Now().After(deadline) || ctx.Err() != nil {
				all = append(all, inv.name+": "+strings.Join(broken, "; "))
				break
			}
			time.Sleep(200 * time.Millisecond)
		}
	}
	return all
}

func (r *rig) checkAnswers(ctx context.Context) []string {
	list, err := r.list(ctx)
	if err != nil {
		return []string{err.Error()}
	}
	var broken []string
	for _, id := range r.plugins {
		if p := list[id]; p.State != "running" {
			broken = append(broken, fmt.Sprintf("%s is %q (%s)", id, p.State, p.Reason))
			continue
		}
		if _, err := r.who(ctx, id, time.Second); err != nil {
			broken = append(broken, fmt.Sprintf("%s: %v", id, err))
		}
	}
	return broken
}

func (r *rig) checkOne(context.Context) []string { return r.guard.seen() }

func (r *rig) checkOwned(ctx context.Context) []string {
	list, err := r.list(ctx)
	if err != nil {
		return []string{err.Error()}
	}
	return r.unowned(ctx, list)
}

// unowned lists what belongs to none of the instances that the plugins have.
func (r *rig) unowned(ctx context.Context, plugins map[string]v1.Plugin) []string {
	instances, sockets, states := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, p := range plugins {
		if p.Instance != "" {
			instances[p.Instance] = true
			sockets[filepath.Base(r.paths.SocketDir(p.Instance))] = true
			states[r.paths.State(plugin.Key{Tenant: p.Tenant, ID: p.ID})] = true
		}
	}
	var left []string
	for dir, owned := range map[string]map[string]bool{
		"instances": instances, filepath.Join("run", "i"): sockets, "staging": nil,
	} {
		entries, _ := os.ReadDir(filepath.Join(r.home, "ocmt", dir))
		for _, e := range entries {
			if !owned[e.Name()] {
				left = append(left, "directory "+filepath.Join(dir, e.Name()))
			}
		}
	}
	below := filepath.Join(r.home, "ocmt", "instances") + "/"
	for _, at := range mountsBelow(r.home) {
		rest, ok := strings.CutPrefix(at, below)
		if id, _, _ := strings.Cut(rest, "/"); !states[at] && (!ok || !instances[id]) {
			left = append(left, "mount "+at)
		}
	}
	for _, m := range r.census.members() {
		if !instances[m.instance] && alive(m.pid) {
			left = append(left, fmt.Sprintf("process %d of %s", m.pid, m.instance))
		}
	}
	left = append(left, r.unownedContainers(ctx, plugins)...)
	if n := r.daemons(); plugins != nil && n != 1 || plugins == nil && n != 0 {
		left = append(left, fmt.Sprintf("%d daemons", n))
	}
	slices.Sort(left)
	return left
}

// unownedContainers asks the engine: there is one container for each plugin
// that has an instance, and no other.
func (r *rig) unownedContainers(ctx context.Context, plugins map[string]v1.Plugin) []string {
	all, err := r.engine.Containers(ctx, map[string]string{"ocmt.home": r.homeID}, false)
	if err != nil {
		return []string{err.Error()}
	}
	var left []string
	owned := map[string]bool{}
	for id, p := range plugins {
		if p.Instance == "" {
			continue
		}
		list, err := r.engine.Containers(ctx, map[string]string{"ocmt.home": r.homeID, "ocmt.plugin": id}, false)
		if err != nil {
			return []string{err.Error()}
		}
		if len(list) != 1 {
			left = append(left, fmt.Sprintf("%d containers of %s", len(list), id))
		}
		for _, c := range list {
			owned[c] = true
		}
	}
	for _, c := range all {
		if !owned[c] {
			left = append(left, "container "+c)
		}
	}
	return left
}

// daemons counts the processes of `ocmt serve` over the home.
func (r *rig) daemons() int {
	n := 0
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range paths {
		line, err := os.ReadFile(path)
		if err == nil && bytes.Contains(line, []byte("/ocmt\x00serve\x00--home\x00"+r.home+"\x00")) {
			n++
		}
	}
	return n
}

func (r *rig) checkCounted(ctx context.Context) []string {
	list, err := r.list(ctx)
	if err != nil {
		return []string{err.Error()}
	}
	var broken []string
	for _, id := range r.plugins {
		got, want := list[id].Restarts, r.restarts[id]
		if got < want || got > want+r.maybe[id] {
			broken = append(broken, fmt.Sprintf("%s was restarted %d times, counted are %d", id, want, got))
		}
		r.restarts[id], r.maybe[id] = max(got, want), 0
	}
	return broken
}

func (r *rig) checkRecorded(ctx context.Context) []string {
	if _, err := r.ocmt(ctx, "audit", "verify"); err != nil {
		return []string{err.Error()}
	}
	return nil
}

// What the daemon may hold more than at first: connections that are about to
// be closed, threads that the runtime keeps, garbage. A plugin that was taken
// over may hold a descriptor more than one that was started.
const (
	moreFiles   = 10 // and one for each plugin
	moreThreads = 16
	moreMemory  = 24 << 10 // kB
)

func (r *rig) checkBounded(context.Context) []string {
	r.client.Close()
	now := usageOf(r.daemon.pid())
	if now.files > r.idle.files+moreFiles+len(r.plugins) || now.threads > r.idle.threads+moreThreads || now.memory > r.idle.memory+moreMemory {
		return []string{fmt.Sprintf("%d descriptors, %d threads, %d kB; at first %d, %d, %d",
			now.files, now.threads, now.memory, r.idle.files, r.idle.threads, r.idle.memory)}
	}
	return nil
}

func (r *rig) checkStopped(ctx context.Context) []string {
	list, err := r.list(ctx)
	if err != nil {
		return []string{err.Error()}
	}
	var broken []string
	if p := list[r.off]; p.State != "stopped" {
		broken = append(broken, fmt.Sprintf("%s is %q", r.off, p.State))
	}
	for _, m := range r.census.members() {
		if m.plugin == r.off {
			broken = append(broken, fmt.Sprintf("process %d of %s", m.pid, r.off))
		}
	}
	return broken
}

// typed returns what is wrong with the error of a call that was lost: it has
// to have a class, a code and a mark that the call may be repeated.
func typed(err error) error {
	f := fault.Of(err)
	switch {
	case errdefs.IsInternal(f.Class()), errdefs.IsUnknown(f.Class()), f.Code == "":
		return fmt.Errorf("an error without a class: %w", err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("nobody was told before the deadline: %w", err)
	case !f.Retryable:
		return fmt.Errorf("an error that is not marked as retryable: %w", err)
	}
	return nil
}
