package instance_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"testing"
	"testing/fstest"

	"github.com/ocmt/ocmt/orchestrator/install/seal"
	"github.com/ocmt/ocmt/orchestrator/instance"
)

// BenchmarkPrepare makes and removes instances over an engine that takes no
// time: what is measured is ours, mounts of the kernel's included.
func BenchmarkPrepare(b *testing.B) {
	for _, mib := range []int{0, 8, 48} {
		b.Run(fmt.Sprintf("payload=%dMiB", mib), func(b *testing.B) {
			f, h, plan := setup(b, wellBehaved)
			if mib > 0 {
				data := make([]byte, mib<<20)
				_, _ = rand.Read(data) // never fails
				sealIt := seal.Seal
				if ok, _ := seal.CanMount(h.Store()); !ok {
					sealIt = seal.SealTree
				}
				var err error
				if plan.Payload, err = sealIt(b.Context(), fstest.MapFS{"index.js": {Data: data}}, h.Store()); err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() {
					if err := seal.Remove(h.Store(), plan.Payload); err != nil {
						b.Error(err)
					}
				})
			}
			plan.Workspaces = []instance.Workspace{{Path: mkdir(b, b.TempDir()+"/project")}}
			for b.Loop() {
				plan.Generation++
				in, err := f.Prepare(b.Context(), plan)
				b.StopTimer()
				if err == nil {
					err = in.Close(context.WithoutCancel(b.Context()))
				}
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}
