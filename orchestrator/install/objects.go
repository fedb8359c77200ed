package install

import (
	"context"
	"fmt"

	"github.com/ocmt/ocmt/orchestrator/install/seal"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// object names an object of the store.
type object struct{ digest, form string }

func objectOf(p plugin.Payload) object { return object{p.Digest, p.Form} }

// Prune removes the store's objects that no record refers to and no install
// under way has sealed. Call it when a plugin that was replaced no longer
// runs.
func (in *Installer) Prune(ctx context.Context) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	needed, err := in.needed(ctx)
	if err != nil {
		return err
	}
	objects, err := seal.List(in.StoreDir)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if needed[objectOf(o)] {
			continue
		}
		if err := seal.Remove(in.StoreDir, o); err != nil {
			return err
		}
	}
	return nil
}

// collect removes one object if nothing needs it.
func (in *Installer) collect(ctx context.Context, p plugin.Payload) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	needed, err := in.needed(ctx)
	if err != nil || needed[objectOf(p)] {
		return err
	}
	return seal.Remove(in.StoreDir, p)
}

// needed is the set of objects to keep. When the records cannot be read, so
// that it is unknown, nothing may be removed.
func (in *Installer) needed(ctx context.Context) (map[object]bool, error) {
	installed, err := in.Records.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot read what is installed: %w", err)
	}
	needed := map[object]bool{}
	for _, i := range installed {
		needed[objectOf(i.Payload)] = true
	}
	for o := range in.pins {
		needed[o] = true
	}
	return needed, nil
}

// unpin ends an install's hold on its object, and removes the object when the
// install came to nothing.
func (in *Installer) unpin(ctx context.Context, p plugin.Payload) {
	in.mu.Lock()
	if in.pins[objectOf(p)]--; in.pins[objectOf(p)] == 0 {
		delete(in.pins, objectOf(p))
	}
	in.mu.Unlock()
	ctx, cancel := cleanup(ctx)
	defer cancel()
	if err := in.collect(ctx, p); err != nil {
		in.Log.Warn("cannot remove a payload that nothing needs, the next start will", "digest", p.Digest, "error", err)
	}
}
