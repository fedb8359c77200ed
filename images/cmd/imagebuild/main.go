// Command imagebuild builds the container images of ocmt, and refreshes the
// lock file that pins what they are made of.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/ocmt/ocmt/images/build/command"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := command.Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
