// Command ocmt runs untrusted plugins in containers; see package cli.
package main

import (
	"context"
	"errors"
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
		ReadHidden: readHidden,
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

// readHidden reads a line from a terminal without showing it, and leaves the
// terminal as it was also when ctx ends first.
func readHidden(ctx context.Context, stream any) (string, error) {
	f, ok := stream.(*os.File)
	if !ok {
		return "", errors.New("no terminal")
	}
	fd := int(f.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	type line struct {
		text []byte
		err  error
	}
	read := make(chan line, 1)
	go func() { // a read cannot be interrupted: this ends with the process
		text, err := term.ReadPassword(fd)
		read <- line{text, err}
	}()
	select {
	case l := <-read:
		return string(l.text), l.err
	case <-ctx.Done():
		return "", errors.Join(ctx.Err(), term.Restore(fd, before))
	}
}
