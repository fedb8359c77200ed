package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ocmt/ocmt/orchestrator/api/apitest"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	"github.com/ocmt/ocmt/orchestrator/cli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"ocmt":     main,
		"memocmt":  func() { os.Exit(serveMemory(os.Args[1])) },
		"hostocmt": func() { os.Exit(withHost(os.Args[1:])) },
	})
}

// serveMemory serves the in-memory backend on socket until it is told to end.
func serveMemory(socket string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := httpapi.ListenUnix(ctx, socket, 0o600)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	handler := httpapi.New(apitest.New().Parts(), httpapi.Options{})
	if err := httpapi.Serve(ctx, listener, handler, httpapi.Caller{Access: httpapi.AccessAdmin}, slog.New(slog.DiscardHandler)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// withHost is ocmt with a daemon that prints its options and waits, and a
// doctor that finds what $DOCTOR names.
func withHost(args []string) int {
	return cli.Main(context.Background(), cli.Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv,
		IsTerminal: func(any) bool { return false },
		Version:    "1.0.0",
		Serve: func(ctx context.Context, o cli.ServeOptions) error {
			fmt.Fprintf(o.Stderr, "home=%s socket=%s engine=%s runtime=%s image=%.12s log=%s\n", o.Home, o.Socket, o.Engine, o.Runtime, o.BaseImage, o.LogLevel)
			self, err := os.FindProcess(os.Getpid())
			if err := errors.Join(err, self.Signal(syscall.SIGTERM)); err != nil {
				return err
			}
			<-ctx.Done()
			if os.Getenv("STUBBORN") != "" { // it does not end: a second signal ends it
				for range 500 { // the first of them may come too soon
					if err := self.Signal(syscall.SIGTERM); err != nil {
						return err
					}
					<-time.After(10 * time.Millisecond)
				}
			}
			fmt.Fprintln(o.Stderr, "stopped in order")
			return nil
		},
		Doctor: func(context.Context, cli.DoctorOptions) (cli.DoctorReport, error) {
			engine := cli.DoctorCheck{Name: "engine", Status: cli.StatusOK, Detail: "docker"}
			if os.Getenv("DOCTOR") == cli.StatusMissing {
				engine = cli.DoctorCheck{Name: "engine", Status: cli.StatusMissing, Detail: "no engine answers", Fix: "apt install docker.io"}
			}
			return cli.DoctorReport{Checks: []cli.DoctorCheck{
				{Name: "kernel", Status: cli.StatusOK, Detail: "6.1"},
				{Name: "gvisor", Status: cli.StatusWeaker, Fix: "install runsc",
					Detail: "plugins share the kernel: a fault in it that the seccomp profile leaves reachable lets them out of their containers"},
				engine,
			}}, nil
		},
	}, args)
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir+"/home")
			return os.Mkdir(env.WorkDir+"/home", 0o700)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":   exits,
			"waitfor": waitFor,
		},
	})
}

// exits CODE COMMAND... runs a command and checks its exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	if err != nil || neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	got := 0
	var failed *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &failed) {
		got = failed.ExitCode()
	} else if err != nil {
		ts.Fatalf("cannot run %s: %v", args[1], err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// waitfor SOCKET waits until a daemon answers on it.
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitfor SOCKET")
	}
	for range 1000 {
		if ts.Exec("ocmt", "--socket", args[0], "status") == nil {
			return
		}
	}
	ts.Fatalf("no daemon answers on %s", args[0])
}
