package containerd

import (
	"testing"

	"github.com/ocmt/ocmt/sandbox"
)

// BenchmarkStart measures the life of a container whose program does nothing:
// all of it, and its parts.
func BenchmarkStart(b *testing.B) {
	for _, runtime := range []string{defaultRuntime, gvisor} {
		for _, part := range []string{"all", "create", "start", "remove"} {
			b.Run("runtime="+runtime+"/part="+part, func(b *testing.B) {
				e := withRuntime(b, runtime)
				spec := probe(b, e, "exit", "0")
				spec.Runtime = runtime
				spec.Limits = sandbox.LimitsFor(sandbox.RolePlugin)
				for b.Loop() {
					live(b, e, spec, part)
				}
			})
		}
	}
}

// live is one life, of which only a part is on the clock.
func live(b *testing.B, e *Engine, spec sandbox.Spec, part string) {
	timed := func(name string, act func() error) {
		if part != "all" && part != name {
			b.StopTimer()
			defer b.StartTimer()
		}
		if err := act(); err != nil {
			b.Fatal(err)
		}
	}
	timed("create", func() error { return e.Create(b.Context(), spec) })
	timed("start", func() error { return e.Start(b.Context(), spec.ID) })
	timed("wait", func() error { _, err := e.Wait(b.Context(), spec.ID); return err })
	timed("remove", func() error { return e.Remove(b.Context(), spec.ID) })
}
