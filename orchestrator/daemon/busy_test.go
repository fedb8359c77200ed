package daemon

import (
	"testing"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// TestBusyPlugin lets a plugin that connects all the time leave the others'
// events alone.
func TestBusyPlugin(t *testing.T) {
	b := newBusy()
	one, other := plugin.Key{Tenant: "default", ID: "one"}, plugin.Key{Tenant: "default", ID: "other"}
	told := 0
	for range 10 * allowedBurst {
		if b.allow(one) {
			told++
		}
	}
	if told < allowedBurst || told > 2*allowedBurst {
		t.Errorf("%d of %d were told, want about %d", told, 10*allowedBurst, allowedBurst)
	}
	if !b.allow(other) {
		t.Error("another plugin is bounded too")
	}
	if b.forget(one); !b.allow(one) {
		t.Error("one that is installed again is bounded by what was")
	}
}
