// Command bundle writes the runner as one JavaScript file:
//
//	go run ./images/runner-node/cmd/bundle -o runner.js
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/ocmt/ocmt/images/runner-node/bundle"
)

func main() {
	out := flag.String("o", "dist/runner.js", "the `file` to write")
	src := flag.String("src", "images/runner-node/src", "the `directory` of the runner's sources")
	flag.Parse()
	if err := bundle.Bundle(*src, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bundle:", err)
		os.Exit(1)
	}
}
