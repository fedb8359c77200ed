package sandboxtest

import (
	"context"
	"crypto/rand"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/sandbox"
)

// grace is ample for a process that ends when it is told to.
const grace = 20 * time.Second

var imageRows = []row{
	{"known image is not loaded again", false, func(t *testing.T, s *suite) {
		img := s.Image
		img.Open = func() (io.ReadCloser, error) {
			t.Error("the archive was opened")
			return s.Image.Open()
		}
		if err := s.Engine.EnsureImage(s.ctx(t), img, nil); err != nil {
			t.Error(err)
		}
	}},
	{"missing image without an archive", false, func(t *testing.T, s *suite) {
		err := s.Engine.EnsureImage(s.ctx(t), sandbox.Image{Digest: unknownDigest}, nil)
		wantClass(t, "EnsureImage", err, errdefs.IsNotFound)
	}},
	{"archive of another image", false, func(t *testing.T, s *suite) {
		other := TinyImage(t)
		other.Digest = unknownDigest
		wantClass(t, "EnsureImage", s.Engine.EnsureImage(s.ctx(t), other, nil), errdefs.IsFailedPrecondition)
		other.Open = nil
		wantClass(t, "EnsureImage afterwards", s.Engine.EnsureImage(s.ctx(t), other, nil), errdefs.IsNotFound)
	}},
	{"archive that is none", false, func(t *testing.T, s *suite) {
		open := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("nonsense")), nil }
		err := s.Engine.EnsureImage(s.ctx(t), sandbox.Image{Digest: unknownDigest, Open: open}, nil)
		wantClass(t, "EnsureImage", err, errdefs.IsFailedPrecondition)
	}},
	{"create from a missing image", false, func(t *testing.T, s *suite) {
		spec := s.spec("exit", "0")
		spec.Image = unknownDigest
		wantClass(t, "Create", s.Engine.Create(s.ctx(t), spec), errdefs.IsNotFound)
		if got := s.list(t, s.ctx(t)); len(got) > 0 {
			t.Errorf("left %+v", got)
		}
	}},
}

var unknownDigest = "sha256:" + strings.Repeat("0123456789abcdef", 4)

var lifeRows = []row{
	{"create that is given up", false, func(t *testing.T, s *suite) {
		for _, after := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond, 15 * time.Millisecond, 40 * time.Millisecond} {
			ctx, cancel := context.WithTimeout(t.Context(), after)
			spec := s.spec("exit", "0")
			err := s.Engine.Create(ctx, spec)
			cancel()
			got := s.list(t, s.ctx(t))
			if err != nil && len(got) > 0 {
				t.Errorf("given up after %s: %v, and left %+v", after, err, got)
			}
			if err := s.Engine.Remove(s.ctx(t), spec.ID); err != nil && !errdefs.IsNotFound(err) {
				t.Error(err)
			}
		}
	}},
	{"exit 0", false, exitsWith("0", 0)},
	{"exit 7", false, exitsWith("7", 7)},
	{"states", false, states},
	{"start twice", false, func(t *testing.T, s *suite) {
		id := s.startSleeping(t, "sleep", "0")
		wantClass(t, "second Start", s.Engine.Start(s.ctx(t), id), errdefs.IsFailedPrecondition)
		s.stop(t, id, grace)
		wantClass(t, "Start after the exit", s.Engine.Start(s.ctx(t), id), errdefs.IsFailedPrecondition)
	}},
	{"program that does not exist", true, func(t *testing.T, s *suite) {
		spec := s.spec()
		spec.Args = []string{"/nothing"}
		id := s.create(t, spec)
		if err := s.Engine.Start(s.ctx(t), id); err == nil {
			t.Error("Start did not fail")
		}
		for _, c := range s.list(t, s.ctx(t)) {
			if c.State == sandbox.StateRunning {
				t.Errorf("%+v", c)
			}
		}
	}},
	{"name is taken", false, func(t *testing.T, s *suite) {
		spec := s.spec("exit", "0")
		s.create(t, spec)
		wantClass(t, "second Create", s.Engine.Create(s.ctx(t), spec), errdefs.IsAlreadyExists)
		if exit := s.finish(t, spec.ID); exit.Code != 0 {
			t.Errorf("the first container: %+v", exit)
		}
	}},
	{"invalid specs", false, invalidSpecs},
	{"unknown ids", false, unknownIDs},
	{"beginning of an id is not an id", false, func(t *testing.T, s *suite) {
		id := s.startSleeping(t, "sleep", "0")
		if err := s.Engine.Remove(s.ctx(t), id[:len(id)-1]); err != nil {
			t.Error(err)
		}
		if got := s.list(t, s.ctx(t)); len(got) != 1 || got[0].State != sandbox.StateRunning {
			t.Errorf("containers %+v", got)
		}
	}},
	{"stop within the grace", false, func(t *testing.T, s *suite) {
		id := s.startSleeping(t, "sleep", "3")
		s.stop(t, id, grace)
		if exit := s.wait(t, id); exit.Code != 3 || exit.OOMKilled {
			t.Errorf("exit %+v, want the process's own 3", exit)
		}
	}},
	{"kill after the grace", false, func(t *testing.T, s *suite) {
		id := s.startSleeping(t, "sleep", "-1")
		const grace = 300 * time.Millisecond
		began := time.Now()
		s.stop(t, id, grace)
		if took := time.Since(began); took < grace {
			t.Errorf("killed after %s, within the grace of %s", took, grace)
		}
		if exit := s.wait(t, id); exit.Code != 137 || exit.OOMKilled {
			t.Errorf("exit %+v, want 137", exit)
		}
	}},
	{"kill at once", false, func(t *testing.T, s *suite) {
		id := s.startSleeping(t, "sleep", "3")
		s.stop(t, id, 0)
		if exit := s.wait(t, id); exit.Code != 137 || exit.OOMKilled {
			t.Errorf("exit %+v, want 137", exit)
		}
	}},
	{"stop and remove are idempotent", false, func(t *testing.T, s *suite) {
		id := s.startSleeping(t, "sleep", "0")
		s.stop(t, id, grace)
		s.stop(t, id, grace)
		s.remove(t, id)
		s.remove(t, id)
		s.stop(t, id, grace)
	}},
	{"stop a created container", false, func(t *testing.T, s *suite) {
		id := s.create(t, s.spec("exit", "5"))
		s.stop(t, id, grace)
		if exit := s.finish(t, id); exit.Code != 5 {
			t.Errorf("exit %+v, want it to be startable still", exit)
		}
	}},
	{"remove a running container", false, func(t *testing.T, s *suite) {
		id := s.startSleeping(t, "sleep", "-1")
		waited := make(chan error, 1)
		go func() {
			_, err := s.Engine.Wait(s.ctx(t), id)
			waited <- err
		}()
		s.remove(t, id)
		if err := <-waited; err != nil && !errdefs.IsNotFound(err) {
			t.Errorf("Wait: %v", err)
		}
		_, err := s.Engine.Wait(s.ctx(t), id)
		wantClass(t, "Wait after Remove", err, errdefs.IsNotFound)
	}},
	{"name is free after remove", false, func(t *testing.T, s *suite) {
		spec := s.spec("exit", "4")
		s.run(t, spec)
		s.remove(t, spec.ID)
		if exit, _ := s.run(t, spec); exit.Code != 4 {
			t.Errorf("exit %+v", exit)
		}
	}},
	{"wait before start", false, func(t *testing.T, s *suite) {
		id := s.create(t, s.spec("sleep", "6"))
		codes := make(chan int, 1)
		go func() {
			exit, err := s.Engine.Wait(s.ctx(t), id)
			if err != nil {
				t.Errorf("Wait: %v", err)
			}
			codes <- exit.Code
		}()
		if err := s.Engine.Start(s.ctx(t), id); err != nil {
			t.Fatal(err)
		}
		s.awaitOutput(t, id, "sleeping")
		select {
		case code := <-codes:
			t.Fatalf("Wait returned %d while the container runs", code)
		default:
		}
		s.stop(t, id, grace)
		if code := <-codes; code != 6 {
			t.Errorf("exit code %d, want 6", code)
		}
	}},
	{"wait for one that is removed before it starts", false, func(t *testing.T, s *suite) {
		id := s.create(t, s.spec("exit", "0"))
		errs := make(chan error, 1)
		go func() {
			_, err := s.Engine.Wait(s.ctx(t), id)
			errs <- err
		}()
		s.remove(t, id)
		wantClass(t, "Wait", <-errs, errdefs.IsNotFound)
	}},
	{"wait several times and late", false, func(t *testing.T, s *suite) {
		id := s.start(t, s.spec("exit", "8"))
		first := s.wait(t, id)
		if diff := cmp.Diff(first, s.wait(t, id)); diff != "" || first.Code != 8 {
			t.Errorf("exit %+v, then %s", first, diff)
		}
	}},
	{"cancelled calls", false, cancelledCalls},
	{"calls that end with their context", false, endedCalls},
	{"concurrent use", false, concurrentUse},
}

func exitsWith(arg string, want int) func(*testing.T, *suite) {
	return func(t *testing.T, s *suite) {
		began := time.Now().Add(-time.Minute) // the engine's clock may differ a little
		exit, _ := s.run(t, s.spec("exit", arg))
		if exit.Code != want || exit.OOMKilled || exit.At.Before(began) {
			t.Errorf("exit %+v, want code %d", exit, want)
		}
	}
}

func states(t *testing.T, s *suite) {
	id := s.create(t, s.spec("sleep", "2"))
	see := func(want sandbox.State) sandbox.Container {
		t.Helper()
		got := s.list(t, s.ctx(t))
		if len(got) != 1 || got[0].ID != id || got[0].State != want {
			t.Fatalf("containers %+v, want one that is %s", got, want)
		}
		return got[0]
	}
	if c := see(sandbox.StateCreated); !c.StartedAt.IsZero() || c.PID != 0 {
		t.Errorf("created: %+v", c)
	}
	if err := s.Engine.Start(s.ctx(t), id); err != nil {
		t.Fatal(err)
	}
	running := see(sandbox.StateRunning)
	if running.StartedAt.IsZero() || running.PID == 0 {
		t.Errorf("running: %+v", running)
	}
	s.awaitOutput(t, id, "sleeping")
	s.stop(t, id, grace)
	exited := see(sandbox.StateExited)
	if exited.Exit.Code != 2 || exited.PID != 0 || !exited.StartedAt.Equal(running.StartedAt) || exited.Exit.At.Before(running.StartedAt) {
		t.Errorf("exited: %+v", exited)
	}
}

func invalidSpecs(t *testing.T, s *suite) {
	for name, spoil := range map[string]func(*sandbox.Spec){
		"root":            func(spec *sandbox.Spec) { spec.UID = 0 },
		"no memory limit": func(spec *sandbox.Spec) { spec.Limits.Memory = 0 },
		"more than the host's memory": func(spec *sandbox.Spec) {
			spec.Limits.Memory = 3 << 40
		},
		"unknown runtime": func(spec *sandbox.Spec) { spec.Runtime = "no-such-runtime" },
		"engine socket": func(spec *sandbox.Spec) {
			spec.Mounts = []sandbox.Mount{{Source: "/run/docker.sock", Target: "/x"}}
		},
		"missing source": func(spec *sandbox.Spec) {
			spec.Mounts = []sandbox.Mount{{Source: directory(t) + "/missing", Target: "/x"}}
		},
	} {
		spec := s.spec("exit", "0")
		spoil(&spec)
		if name == "more than the host's memory" && !s.Kernel {
			continue
		}
		wantClass(t, name, s.Engine.Create(s.ctx(t), spec), errdefs.IsInvalidArgument)
	}
	if got := s.list(t, s.ctx(t)); len(got) > 0 {
		t.Errorf("left %+v", got)
	}
}

func unknownIDs(t *testing.T, s *suite) {
	const id = "ocmt-nobody"
	ctx := s.ctx(t)
	wantClass(t, "Start", s.Engine.Start(ctx, id), errdefs.IsNotFound)
	_, err := s.Engine.Wait(ctx, id)
	wantClass(t, "Wait", err, errdefs.IsNotFound)
	wantClass(t, "Logs", s.Engine.Logs(ctx, id, sandbox.LogOptions{}, io.Discard), errdefs.IsNotFound)
	if err := s.Engine.Stop(ctx, id, grace); err != nil {
		t.Errorf("Stop: %v", err)
	}
	if err := s.Engine.Remove(ctx, id); err != nil {
		t.Errorf("Remove: %v", err)
	}
}

// cancelledCalls makes every call with a context that ended before.
func cancelledCalls(t *testing.T, s *suite) {
	id := s.startSleeping(t, "sleep", "0")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, info := s.Engine.Info(ctx)
	_, wait := s.Engine.Wait(ctx, id)
	_, list := s.Engine.List(ctx, map[string]string{sandbox.LabelHome: s.home})
	for name, err := range map[string]error{
		"Info":        info,
		"EnsureImage": s.Engine.EnsureImage(ctx, sandbox.Image{Digest: unknownDigest}, nil),
		"Create":      s.Engine.Create(ctx, s.spec("exit", "0")),
		"Start":       s.Engine.Start(ctx, id),
		"Wait":        wait,
		"Stop":        s.Engine.Stop(ctx, id, grace),
		"Remove":      s.Engine.Remove(ctx, id),
		"List":        list,
		"Logs":        s.Engine.Logs(ctx, id, sandbox.LogOptions{}, io.Discard),
	} {
		wantClass(t, name, err, errdefs.IsCanceled)
	}
	if got := s.list(t, s.ctx(t)); len(got) != 1 || got[0].State != sandbox.StateRunning {
		t.Errorf("containers %+v, want the one that runs", got)
	}
}

// endedCalls lets calls that block end with their context.
func endedCalls(t *testing.T, s *suite) {
	id := s.startSleeping(t, "sleep", "-1")
	for name, call := range map[string]func(context.Context) error{
		"Wait": func(ctx context.Context) error { _, err := s.Engine.Wait(ctx, id); return err },
		"Stop": func(ctx context.Context) error { return s.Engine.Stop(ctx, id, grace) },
		"Logs": func(ctx context.Context) error {
			return s.Engine.Logs(ctx, id, sandbox.LogOptions{Follow: true}, io.Discard)
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		began := time.Now()
		err := call(ctx)
		cancel()
		wantClass(t, name, err, errdefs.IsDeadlineExceeded)
		if took := time.Since(began); took > grace/2 {
			t.Errorf("%s took %s", name, took)
		}
	}
}

func concurrentUse(t *testing.T, s *suite) {
	specs := []sandbox.Spec{s.spec("exit", "11"), s.spec("exit", "12"), s.spec("exit", "13"), s.spec("exit", "14")}
	var group sync.WaitGroup
	for i, spec := range specs {
		group.Go(func() {
			ctx := s.ctx(t)
			if err := s.Engine.Create(ctx, spec); err != nil {
				t.Errorf("Create: %v", err)
				return
			}
			waited := make(chan struct{})
			for range 2 {
				go func() {
					defer func() { waited <- struct{}{} }()
					if exit, err := s.Engine.Wait(ctx, spec.ID); err != nil || exit.Code != 11+i {
						t.Errorf("Wait: %+v, %v, want %d", exit, err, 11+i)
					}
				}()
			}
			if err := s.Engine.Start(ctx, spec.ID); err != nil {
				t.Errorf("Start: %v", err)
			}
			<-waited
			<-waited
			var removals sync.WaitGroup
			for range 3 {
				removals.Go(func() {
					if err := s.Engine.Remove(ctx, spec.ID); err != nil {
						t.Errorf("Remove: %v", err)
					}
				})
			}
			removals.Wait()
		})
	}
	group.Wait()
}

var listRows = []row{
	{"by labels", false, func(t *testing.T, s *suite) {
		other := &suite{Harness: s.Harness, home: randomName("home")}
		t.Cleanup(func() { other.cleanUp(t) })
		stranger := other.create(t, other.spec("exit", "0"))
		first, second := s.spec("exit", "0"), s.spec("exit", "0")
		second.Labels[sandbox.LabelTenant] = "other"
		s.create(t, first)
		s.create(t, second)
		for name, c := range map[string]struct {
			match map[string]string
			want  int
		}{
			"home":             {map[string]string{sandbox.LabelHome: s.home}, 2},
			"home and tenant":  {map[string]string{sandbox.LabelHome: s.home, sandbox.LabelTenant: "other"}, 1},
			"another value":    {map[string]string{sandbox.LabelHome: s.home, sandbox.LabelTenant: "nobody"}, 0},
			"begin of a value": {map[string]string{sandbox.LabelHome: s.home[:len(s.home)-1]}, 0},
		} {
			got, err := s.Engine.List(s.ctx(t), c.match)
			if err != nil || len(got) != c.want {
				t.Errorf("%s: %+v, %v, want %d", name, got, err, c.want)
			}
			for _, container := range got {
				if container.ID == stranger {
					t.Errorf("%s: a container of another home is listed", name)
				}
			}
		}
	}},
	{"without a home", false, func(t *testing.T, s *suite) {
		_, err := s.Engine.List(s.ctx(t), map[string]string{sandbox.LabelTenant: "default"})
		wantClass(t, "List", err, errdefs.IsInvalidArgument)
		_, err = s.Engine.List(s.ctx(t), nil)
		wantClass(t, "List", err, errdefs.IsInvalidArgument)
	}},
	{"labels", false, func(t *testing.T, s *suite) {
		spec := s.spec("exit", "0")
		spec.Labels["ocmt.more"] = "a=b, c"
		s.create(t, spec)
		got := s.list(t, s.ctx(t))
		if len(got) != 1 {
			t.Fatalf("containers %+v", got)
		}
		for key, want := range spec.Labels {
			if got[0].Labels[key] != want {
				t.Errorf("label %s is %q, want %q", key, got[0].Labels[key], want)
			}
		}
	}},
}

func (s *suite) stop(t *testing.T, id string, grace time.Duration) {
	t.Helper()
	if err := s.Engine.Stop(s.ctx(t), id, grace); err != nil {
		t.Errorf("Stop: %v", err)
	}
}

func (s *suite) remove(t *testing.T, id string) {
	t.Helper()
	if err := s.Engine.Remove(s.ctx(t), id); err != nil {
		t.Errorf("Remove: %v", err)
	}
}

// finish starts a created container and waits for its end.
func (s *suite) finish(t *testing.T, id string) sandbox.Exit {
	t.Helper()
	if err := s.Engine.Start(s.ctx(t), id); err != nil {
		t.Fatalf("Start: %v", err)
	}
	return s.wait(t, id)
}

func randomName(prefix string) string {
	return prefix + "-" + strings.ToLower(rand.Text())
}
