package main

import (
	"context"
	"fmt"
	"time"

	"github.com/ocmt/ocmt/e2e/harness"
)

// takeOver kills the daemon and starts another one: the plugin goes on.
func (x *demo) takeOver(ctx context.Context) error {
	container, err := x.d.Container(ctx, "default", pluginID)
	if err != nil {
		return err
	}
	before, err := x.d.Engine().PID(ctx, container)
	if err != nil {
		return err
	}
	x.say("$ kill -9 %d                     # ocmt serve\n", x.d.PID())
	x.d.Kill()
	start := time.Now()
	next, err := harness.Start(ctx, x.d.Home)
	if err != nil {
		return err
	}
	x.d = next
	if err := x.call(ctx); err != nil {
		return err
	}
	after, err := x.d.Engine().PID(ctx, container)
	if err != nil {
		return err
	}
	if after != before {
		return fmt.Errorf("the plugin's process is %d, and was %d", after, before)
	}
	x.say("  another ocmt serve answers %d ms after that, and the plugin's process is still %d\n", time.Since(start).Milliseconds(), after)
	return nil
}
