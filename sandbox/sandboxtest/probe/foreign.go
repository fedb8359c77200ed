package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/sandbox/sandboxtest/internal/report"
)

// foreign makes the calls in children, since a filter may end who makes them,
// and says how each went: with an error, a signal, or nothing. A filter that
// ends a thread alone leaves a child that never answers, which is killed.
func foreign() map[string]report.Attempt {
	const patience = 3 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	children, outputs := map[string]*exec.Cmd{}, map[string]*bytes.Buffer{}
	all := map[string]report.Attempt{}
	for name := range foreignCalls {
		child, out := exec.CommandContext(ctx, "/proc/self/exe", "foreign call", name), &bytes.Buffer{}
		child.Stdout = out
		if err := child.Start(); err != nil {
			all[name] = report.Attempt{Error: "start: " + errName(err)}
			continue
		}
		children[name], outputs[name] = child, out
	}
	for name, child := range children {
		_ = child.Wait() // the state says more than the error
		all[name] = report.Attempt{Error: outputs[name].String(), Text: child.ProcessState.String()}
		if status, _ := child.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
			all[name] = report.Attempt{Error: unix.SignalName(status.Signal())}
		}
	}
	return all
}

func foreignCall(name string) int {
	if errno := foreignCalls[name](); errno != 0 {
		fmt.Fprint(os.Stdout, unix.ErrnoName(errno))
		return 1
	}
	return 0
}
