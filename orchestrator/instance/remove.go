package instance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// RemoveState removes what a plugin wrote, and its logs. FailedPrecondition
// while an instance of it is not closed. Where the daemon may
// not remove another uid's files, a container with that uid does.
func (f *Factory) RemoveState(ctx context.Context, key plugin.Key) error {
	state := f.Home.State(key)
	if err := f.volumes.Unmount(state); err != nil {
		return fmt.Errorf("cannot remove the state of plugin %s: %w", key, err)
	}
	if _, err := os.Lstat(state); err == nil && os.Geteuid() != 0 {
		uid, err := f.UID(ctx, key)
		if err != nil {
			return err
		}
		if err := f.clean(ctx, key.Tenant, state, uid); err != nil {
			return err
		}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot look at the state of plugin %s: %w", key, err)
	}
	if err := os.RemoveAll(f.Home.Plugin(key)); err != nil {
		return fmt.Errorf("cannot remove the state of plugin %s: %w", key, err)
	}
	return nil
}
