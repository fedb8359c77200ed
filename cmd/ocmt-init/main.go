// Command ocmt-init is the first process of a plugin's container: it starts
// the one program the container is for, looks after its orphans and signals,
// gives it the granted part of the network, and says how it ended.
package main

import (
	"os"

	"github.com/ocmt/ocmt/cmd/ocmt-init/internal/pid1"
)

// version is set when the program is linked.
var version = "devel"

func main() {
	os.Exit(pid1.Main(os.Args[1:], version))
}
