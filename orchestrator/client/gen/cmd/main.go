// Command cmd generates package gen, the requests of the API, from the OpenAPI
// document: cmd DOCUMENT OUT. The types of requests and answers are those of
// package v1, which the document is made from.
package main

import (
	_ "embed"
	"fmt"
	"os"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/oapi-codegen/oapi-codegen/v2/pkg/codegen"
)

//go:embed client.tmpl
var clientTemplate string

// header begins the file; goimports drops what is not used.
const header = `// Package gen makes the requests of the API: a function for each operation of
// the OpenAPI document, with the types of package v1. It sends nothing; package
// client does, and is the face of both.
//
// Code generated from the OpenAPI document by make generate. DO NOT EDIT.
package {{.PackageName}}

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)
`

func main() {
	if err := run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("usage: %s DOCUMENT OUT", args[0])
	}
	document, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	source, err := generate(document)
	if err != nil {
		return err
	}
	return os.WriteFile(args[2], []byte(source), 0o644)
}

// generate returns the source of package gen.
func generate(document []byte) (string, error) {
	spec, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		return "", fmt.Errorf("cannot read the document: %w", err)
	}
	source, err := codegen.Generate(spec, codegen.Configuration{
		PackageName: "gen",
		Generate:    codegen.GenerateOptions{Client: true}, // no models: package v1 has them
		OutputOptions: codegen.OutputOptions{
			UserTemplates: map[string]string{
				"imports.tmpl":               header,
				"client.tmpl":                clientTemplate,
				"client-with-responses.tmpl": "{{\"\"}}\n", // not blank, which would not count
			},
		},
	})
	if err != nil {
		return "", fmt.Errorf("cannot generate the requests: %w", err)
	}
	return strings.TrimSpace(source) + "\n", nil
}
