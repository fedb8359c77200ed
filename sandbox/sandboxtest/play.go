package sandboxtest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/sandboxtest/internal/report"
)

// Play is the probe for engines without processes: the commands that need no
// kernel, as a function. Its context ends with SIGTERM.
func Play(ctx context.Context, spec sandbox.Spec, out io.Writer) int {
	if len(spec.Args) < 2 {
		return 2
	}
	args := spec.Args[2:]
	switch spec.Args[1] {
	case "exit":
		return integer(args[0])
	case "print":
		for i := range integer(args[0]) {
			stream := out
			if engine, ok := out.(interface{ Stderr() io.Writer }); ok && i%2 == 1 {
				stream = engine.Stderr()
			}
			fmt.Fprintf(stream, "line %d\n", i)
		}
		if len(args) > 1 {
			return playSleep(ctx, out, args[1])
		}
		return 0
	case "line":
		fmt.Fprint(out, strings.Repeat("x", integer(args[0])))
		return 0
	case "sleep":
		return playSleep(ctx, out, args[0])
	case "describe":
		process := report.Process{
			Args: spec.Args, Env: slices.Clone(spec.Env), Dir: spec.Dir, Hostname: spec.Hostname(),
			UID: int(spec.UID), GID: int(spec.GID),
		}
		if json.NewEncoder(out).Encode(process) == nil {
			return 0
		}
	}
	return 2
}

// playSleep with a negative code ignores the end of ctx, for ever: the
// goroutine is the price of a process that nobody reaps.
func playSleep(ctx context.Context, out io.Writer, code string) int {
	fmt.Fprintln(out, "sleeping")
	if integer(code) < 0 {
		select {}
	}
	<-ctx.Done()
	return integer(code)
}

func integer(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 2
	}
	return n
}
