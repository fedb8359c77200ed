package fake_test

import (
	"testing"

	"github.com/ocmt/ocmt/sandbox/fake"
	"github.com/ocmt/ocmt/sandbox/sandboxtest"
)

func TestConformance(t *testing.T) {
	image := sandboxtest.TinyImage(t)
	sandboxtest.Run(t, func(t *testing.T) sandboxtest.Harness {
		return sandboxtest.Harness{Engine: fake.New(fake.Options{Run: sandboxtest.Play}), Image: image}
	})
}
