// Command ocmt runs untrusted plugins in containers; see package cli.
package main

import (
	"context"
	"os"

	"golang.org/x/term"

	"github.com/ocmt/ocmt/orchestrator/cli"
	"github.com/ocmt/ocmt/orchestrator/daemon"
	"github.com/ocmt/ocmt/orchestrator/doctor"
)

func main() {
	os.Exit(cli.Main(context.Background(), cli.Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv,
		IsTerminal: func(stream any) bool { f, ok := stream.(*os.File); return ok && term.IsTerminal(int(f.Fd())) },
		Version:    daemon.Version,
		Serve:      func(ctx context.Context, o cli.ServeOptions) error { return daemon.Run(ctx, daemon.Options(o)) },
		Doctor:     diagnose,
	}, os.Args[1:]))
}

func diagnose(ctx context.Context, o cli.DoctorOptions) (report cli.DoctorReport, err error) {
	for _, c := range doctor.Run(ctx, doctor.Options(o)) {
		report.Checks = append(report.Checks, cli.DoctorCheck(c))
	}
	return report, nil
}
