package instance_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/home"
	"github.com/ocmt/ocmt/orchestrator/instance"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/sandbox"
)

func needsQuota(t testing.TB, h home.Home) {
	t.Helper()
	if kind, why := instance.StateQuota(h.Instances()); kind != instance.StateImage {
		t.Skip("the state has no file system of its own here: ", why)
	}
}

// backed lists the loop devices over files of the home.
func backed(t *testing.T, h home.Home) []string {
	t.Helper()
	paths, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	must(t, err)
	var found []string
	for _, path := range paths {
		if file, err := os.ReadFile(path); err == nil && strings.HasPrefix(string(file), h.Tenants()) {
			found = append(found, string(file))
		}
	}
	return found
}

// expectUnbacked waits until no loop device is left: a container of somebody
// else that is being started has a mount of it for a moment.
func expectUnbacked(t *testing.T, h home.Home) {
	t.Helper()
	for began := time.Now(); len(backed(t, h)) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatalf("on loop devices: %q", backed(t, h))
		}
	}
}

// TestQuota: a plugin gets ENOSPC, its neighbour does not notice, and what was
// written is there at the next start, and after an uninstall that keeps it.
func TestQuota(t *testing.T) {
	onEngines(t, func(t *testing.T, f *instance.Factory, e *probing, plan instance.Plan) {
		needsQuota(t, f.Home)
		neighbour := plan
		neighbour.Key.ID = "neighbour"
		plan.State = 8 << 20
		if got := e.do(t, f, neighbour, "write\t/state/kept\tmine"); got[0] != "" {
			t.Fatalf("the neighbour cannot write: %s", got[0])
		}
		got := e.do(t, f, plan, "write\t/state/first\ttext", "fill\t/state/all", "fill\t/state/more")
		if mib := 0; got[0] != "" || got[2] != "0 MiB ENOSPC" {
			t.Errorf("writing = %q", got)
		} else if n, err := fmt.Sscanf(got[1], "%d MiB ENOSPC", &mib); n != 1 || err != nil || mib < 7 || mib > 9 {
			t.Errorf("filling up = %q", got[1])
		}
		neighbour.Generation++
		if got := e.do(t, f, neighbour, "read\t/state/kept", "write\t/state/new\ttext"); got[0] != "mine" || got[1] != "" {
			t.Errorf("the neighbour = %q", got)
		}
		plan.Generation++
		plan.State = 16 << 20
		if got := e.do(t, f, plan, "read\t/state/first", "write\t/state/more\tx", "fill\t/state/x"); got[0] != "text" || got[1] != "" {
			t.Errorf("after it was granted more = %q", got)
		}
		expectUnbacked(t, f.Home)
		must(t, f.RemoveState(t.Context(), plan.Key))
		if left, err := os.ReadDir(f.Home.Plugin(plan.Key)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("RemoveState left %v, %v", left, err)
		}
		plan.Generation++
		if got := e.do(t, f, plan, "read\t/state/first"); got[0] != "ENOENT" {
			t.Errorf("after its removal, the state holds %q", got)
		}
	})
}

func TestStateBounds(t *testing.T) {
	f, h, plan := setup(t, wellBehaved)
	for _, size := range []int64{-1, 1, 1<<20 - 1, 1<<40 + 1} {
		plan.State = size
		_, err := f.Prepare(t.Context(), plan)
		if got := fault.Of(err); got.Code != "limits_invalid" || !errdefs.IsInvalidArgument(err) || got.Hint == "" {
			t.Errorf("Prepare() with a state of %d = %v", size, err)
		}
		expectNothing(t, h)
	}
}

// TestOverlappingPrepares: many instances of one plugin at once, of which only
// one ever runs, share one file system.
func TestOverlappingPrepares(t *testing.T) {
	f, h, plan := setup(t, faithful)
	needsQuota(t, h)
	var instances []*instance.Instance
	for plan.Generation <= 20 {
		in, err := f.Prepare(t.Context(), plan)
		must(t, err)
		instances = append(instances, in)
		plan.Generation++
	}
	if found := backed(t, h); len(found) != 1 {
		t.Errorf("on loop devices: %q, want one", found)
	}
	must(t, os.WriteFile(filepath.Join(h.State(key), "file"), []byte("text"), 0o600))
	if err := f.RemoveState(t.Context(), key); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("RemoveState() = %v while it is in use", err)
	}
	var group sync.WaitGroup
	for _, in := range instances[:19] {
		group.Go(func() {
			if err := in.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	must(t, instances[19].Start(t.Context()))
	if text, err := os.ReadFile(filepath.Join(h.State(key), "file")); string(text) != "text" {
		t.Errorf("read %q, %v", text, err)
	}
	must(t, instances[19].Close(t.Context()))
	expectNothing(t, h)
	expectUnbacked(t, h)
}

// TestStateOfBefore: what a plugin wrote before there were file systems of their
// own is there.
func TestStateOfBefore(t *testing.T) {
	f, h, plan := setup(t, faithful)
	needsQuota(t, h)
	put(t, h.State(key), "home/.cache/file")
	in, err := start(t, f, plan)
	must(t, err)
	text, err := os.ReadFile(filepath.Join(h.State(key), "home/.cache/file"))
	if err != nil || string(text) != "secret" {
		t.Errorf("read %q, %v", text, err)
	}
	must(t, in.Close(t.Context()))
	expectNothing(t, h)
	if left, err := os.ReadDir(h.State(key)); err != nil || len(left) > 0 {
		t.Errorf("the plain directory holds %v, %v", left, err)
	}
	put(t, h.State(plugin.Key{Tenant: "default", ID: "other"}), "large")
	must(t, os.Truncate(h.State(plugin.Key{Tenant: "default", ID: "other"})+"/large", 0))
	must(t, exec.CommandContext(t.Context(), "fallocate", "-l", "20M", h.State(plugin.Key{Tenant: "default", ID: "other"})+"/large").Run())
	plan.Key.ID, plan.State = "other", 4<<20
	_, err = f.Prepare(t.Context(), plan)
	if got := fault.Of(err); got.Code != "state_too_small" || !strings.Contains(got.Hint, "23MiB") {
		t.Errorf("Prepare() = %v, hint %q", err, got.Hint)
	}
	expectNothing(t, h)
}

// TestRealStateOutlivesItsDaemon: a plugin writes on while nobody is there, and
// its next daemon shares the same file system with it.
func TestRealStateOutlivesItsDaemon(t *testing.T) {
	f, l, id := realLife(t)
	needsQuota(t, f.Home)
	before := backed(t, f.Home)
	if len(before) != 1 {
		t.Fatalf("on loop devices: %q, want one", before)
	}
	state := f.Home.State(l.Plan.Key)
	must(t, os.WriteFile(filepath.Join(state, "file"), []byte("text"), 0o600))
	in, err := f.Adopt(t.Context(), l.Plan, *container(t, f, id))
	must(t, err)
	must(t, in.Start(t.Context()))
	if in.Spec().ID != id || len(in.Spec().Mounts) == 0 || in.NetworkStats().Open != 0 {
		t.Errorf("the adopted instance is made of %+v", in.Spec())
	}
	next := l.Plan
	next.Generation++
	successor, err := f.Prepare(t.Context(), next)
	must(t, err)
	must(t, in.Stop(t.Context(), 0))
	must(t, in.Close(t.Context()))
	if text, err := os.ReadFile(filepath.Join(state, "file")); string(text) != "text" {
		t.Errorf("read %q, %v", text, err)
	}
	must(t, successor.Start(t.Context()))
	if found := backed(t, f.Home); len(found) != 1 {
		t.Errorf("on loop devices: %q, want one", found)
	}
	must(t, errors.Join(successor.Stop(t.Context(), 0), successor.Close(t.Context())))
	expectNothing(t, f.Home)
	expectUnbacked(t, f.Home)
}

// TestAuthority: each instance has its own, whose key is not in the container,
// and the one that adopts it has the same.
func TestAuthority(t *testing.T) {
	f, h, plan := setup(t, faithful)
	in, err := start(t, f, plan)
	must(t, err)
	path := filepath.Join(h.Instance(in.ID()), "authority.pem")
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("it has mode %v", info.Mode())
	}
	for _, m := range in.Spec().Mounts {
		if m.Source == h.Instance(in.ID()) || m.Source == path {
			t.Errorf("it is mounted: %+v", m)
		}
	}
	before, err := os.ReadFile(path)
	must(t, err)
	trusted, err := os.ReadFile(source(in.Spec(), "/etc/ssl/ocmt-ca.pem"))
	must(t, err)
	if strings.Contains(string(trusted), "PRIVATE") || !strings.Contains(string(before), "PRIVATE") || !strings.Contains(string(before), strings.TrimSpace(string(trusted))) {
		t.Errorf("the container trusts %s", trusted)
	}
	c := container(t, f, in.ID())
	must(t, in.Detach(t.Context()))
	must(t, os.WriteFile(path, []byte("damaged"), 0o600))
	if _, err := f.Adopt(t.Context(), plan, *c); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("Adopt() = %v without an authority", err)
	}
	must(t, os.WriteFile(path, before, 0o600))
	in, err = f.Adopt(t.Context(), plan, *c)
	must(t, err)
	if got, err := os.ReadFile(path); err != nil || string(got) != string(before) {
		t.Errorf("the authority was replaced: %v", err)
	}
	must(t, in.Close(t.Context()))
	expectNothing(t, h)
}

// TestRuntimeOfThePlan goes before the factory's own.
func TestRuntimeOfThePlan(t *testing.T) {
	f, _, plan := setup(t, faithful)
	f.Info.Runtimes = append(f.Info.Runtimes, "other")
	f.Engine = accepting{f.Engine}
	plan.Runtime = "other"
	in, err := f.Prepare(t.Context(), plan)
	must(t, err)
	records, err := f.Records()
	must(t, err)
	if in.Spec().Runtime != "other" || records[in.ID()].Runtime != "other" {
		t.Errorf("runtime %q, on record %q", in.Spec().Runtime, records[in.ID()].Runtime)
	}
	must(t, in.Close(t.Context()))
}

// accepting is an engine that takes any runtime for its own.
type accepting struct{ sandbox.Engine }

func (e accepting) Create(ctx context.Context, spec sandbox.Spec) error {
	spec.Runtime = ""
	return e.Engine.Create(ctx, spec)
}

// TestStateUse asks how full a plugin's state is.
func TestStateUse(t *testing.T) {
	f, h, plan := setup(t, wellBehaved)
	plan.State = 8 << 20
	in, err := f.Prepare(t.Context(), plan)
	must(t, err)
	defer func() { must(t, in.Close(t.Context())) }()
	want, _ := instance.StateQuota(h.Instances())
	kind, size, before, err := f.StateUse(t.Context(), in)
	if err != nil || kind != want || size != 8<<20 || before < 0 || before > 1<<20 {
		t.Errorf("StateUse = %q, %d, %d, %v, want a %s that is nearly empty", kind, size, before, err, want)
	}
	must(t, os.WriteFile(filepath.Join(h.State(plan.Key), "file"), make([]byte, 3<<20), 0o600))
	if _, _, used, err := f.StateUse(t.Context(), in); err != nil || used-before < 3<<20 || used-before > 4<<20 {
		t.Errorf("after 3 MiB more, it uses %d bytes more, %v", used-before, err)
	}
}
