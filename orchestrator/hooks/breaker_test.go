package hooks

import (
	"testing"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

func TestBreakerStaysOpen(t *testing.T) {
	var b breaker
	key := plugin.Key{Tenant: "t", ID: "p"}
	for i := range MaxLate {
		if cut := b.missed(key, 1); cut != (i == MaxLate-1) {
			t.Errorf("miss %d cut off: %v", i+1, cut)
		}
	}
	b.answered(key, 1) // a call that was on its way when the others were late
	if !b.open(key, 1) {
		t.Error("an answer that came with the last late one closed it")
	}
	if b.open(key, 2) {
		t.Error("the plugin's other handler is cut off too")
	}
	if b.missed(key, 1) {
		t.Error("it was cut off twice")
	}
	b.reset(key)
	if b.open(key, 1) {
		t.Error("it is open after a reset")
	}
}
