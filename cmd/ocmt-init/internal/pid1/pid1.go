// Package pid1 is what ocmt-init does: run a program as a container's first
// process must, and delete what a plugin left in its state directory.
//
// It promises to end with the program's own exit code, to leave no process
// behind, to reap every orphan meanwhile, and to stay small: it links neither
// HTTP nor TLS. It kills leftovers only as process 1 of a PID namespace,
// where "every process" means the container's.
package pid1

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
)

// Exit codes of ocmt-init's own. Otherwise the code is the program's: what it
// exited with, or 128+n when signal n ended it.
const (
	exitOwn        = 125 // ocmt-init itself failed
	exitCannotExec = 126 // the program cannot be executed
	exitNotFound   = 127 // there is no such program
)

const usage = `usage:
  ocmt-init run [--] COMMAND [ARGS...]   run COMMAND as the container's program
  ocmt-init clean DIR                    delete everything below DIR
  ocmt-init version
`

// Main carries out the command line and returns the exit code.
func Main(args []string, version string) int {
	saveMemory()
	if len(args) == 0 {
		return misused()
	}
	command, rest := args[0], args[1:]
	if len(rest) > 0 && rest[0] == "--" {
		rest = rest[1:]
	}
	switch {
	case command == "run" && len(rest) > 0:
		return run(rest)
	case command == "clean" && len(rest) == 1:
		return clean(rest[0])
	case command == "version" && len(rest) == 0:
		fmt.Fprintln(os.Stdout, "ocmt-init", version)
		return 0
	}
	return misused()
}

func misused() int {
	fmt.Fprint(os.Stderr, usage)
	return exitOwn
}

// say writes a line for people to standard error.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "ocmt-init: "+format+"\n", args...)
}

// memoryLimit is where the collector begins to work hard, in bytes: a plugin's
// own memory limit counts this process too.
const memoryLimit = 32 << 20

func saveMemory() {
	runtime.GOMAXPROCS(min(2, runtime.NumCPU()))
	debug.SetGCPercent(25)
	debug.SetMemoryLimit(memoryLimit)
}
