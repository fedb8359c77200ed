package hostile

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/attacks.md")

// docsPath is the table for people.
const docsPath = "../../docs/attacks.md"

// TestTable holds docs/attacks.md against the tables.
func TestTable(t *testing.T) {
	text := writeTable(groups())
	if *update {
		if err := os.WriteFile(docsPath, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(docsPath)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != text {
		t.Error("docs/attacks.md is not what the tables say: run go test ./e2e/hostile -run TestTable -update")
	}
}

// writeTable writes the tables for people.
func writeTable(all []group) string {
	var b strings.Builder
	total := 0
	for _, g := range all {
		total += len(g.attacks)
	}
	fmt.Fprintf(&b, `# Attacks

The corpus of hostile plugins: %d of them, each a small npm package in [e2e/hostile/testdata](../e2e/hostile/testdata). `+"`make test`"+` runs all of them on the first engine, and those that are not stopped by ocmt's own code alone (*varies*) on every engine and on gVisor; `+"`make ci-full`"+` runs all of them everywhere. An attack has failed when it has no effect outside its sandbox; after each of them a neighbour still answers with its state intact, and the call is in the audit log.

This page is written from the tables: `+"`go test ./e2e/hostile -run TestTable -update`"+`.
`, total)
	for _, g := range all {
		fmt.Fprintf(&b, "\n## %s\n\n| What the attacker wants | What stops it | Varies | Test |\n|---|---|---|---|\n", g.name)
		for _, a := range g.attacks {
			fmt.Fprintf(&b, "| %s | %s | %s | `TestHostile/%s/%s` |\n", cell(a.aims), cell(a.layer+notes(&a)), varies(&a), g.name, a.name)
		}
	}
	return b.String()
}

func notes(a *attack) string {
	text := ""
	if a.inside != "" {
		text += ". Inside: " + a.inside
	}
	if a.only != "" {
		text += ". Only on " + a.only + ": " + a.why
	}
	return text
}

func varies(a *attack) string {
	if a.varies {
		return "yes"
	}
	return ""
}

func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(text)
}

// TestRows holds the rows to their form.
func TestRows(t *testing.T) {
	seen := map[string]bool{}
	for _, g := range groups() {
		for _, a := range g.attacks {
			t.Run(g.name+"/"+a.name, func(t *testing.T) {
				if seen[a.name] {
					t.Error("the name is taken")
				}
				seen[a.name] = true
				if a.name == "" || a.aims == "" || a.layer == "" || (len(a.want) == 0) == (a.refused == "") {
					t.Error("name, aims, layer, and either want or refused must be said")
				}
				if (a.only == "") != (a.why == "") {
					t.Error("only and why go together")
				}
				if _, err := os.Stat(filepath.Join("testdata", a.name, "package.json")); err != nil {
					t.Error(err)
				}
			})
		}
	}
	for _, want := range []struct{ key, attempt, is string }{
		{"", "a", "1"}, {"runc", "a", "2"}, {"a", "a", "3"}, {"runc/a", "a", "4"}, {"runc", "b", "2"}, {"runsc", "a", "none"}, {"runsc/a", "a", "none"},
		{"a*", "a b", "5"}, {"a b*", "a", "none"},
	} {
		a := attack{want: map[string]string{want.key: want.is}}
		got, ok := a.wanted("runc", want.attempt)
		if (want.is != "none") != ok || ok && got != want.is {
			t.Errorf("wanted %q by %q: %q, %v", want.attempt, want.key, got, ok)
		}
	}
}
