package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

const documentPath = "../../../api/http/testdata/openapi.json"

func TestGeneratedIsUpToDate(t *testing.T) {
	out := filepath.Join(t.TempDir(), "gen.go")
	if err := run([]string{"cmd", documentPath, out}); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../gen.go")
	if err != nil || !bytes.Equal(want, got) {
		t.Errorf("gen.go is not what the OpenAPI document gives (%v); make generate makes it anew", err)
	}
}

func TestBadInput(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken.json")
	if err := os.WriteFile(broken, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"usage":       {"cmd", documentPath},
		"no document": {"cmd", "missing.json", broken},
		"no JSON":     {"cmd", broken, broken},
		"no place":    {"cmd", documentPath, filepath.Join(broken, "out")},
	} {
		if err := run(args); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
