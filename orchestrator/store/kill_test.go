package store

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// childEnv turns the test binary into the writer of TestKillLosesNothing.
const childEnv = "OCMT_STORE_TEST_WRITER"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		if err := writeForEver(context.Background(), path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// writeForEver prints each row's name once the store has acknowledged it.
func writeForEver(ctx context.Context, path string) error {
	s, err := Open(ctx, path)
	if err != nil {
		return err
	}
	fmt.Printf("home %s\n", s.HomeID())
	counter := plugin.Key{Tenant: "default", ID: "counter"}
	for {
		n, err := s.NextGeneration(ctx, counter)
		if err != nil {
			return err
		}
		p := installed("default", fmt.Sprintf("p%d", n), "sha256:aa")
		if err := s.PutPlugin(ctx, p); err != nil {
			return err
		}
		if err := s.SaveUnit(ctx, p.Key, json.RawMessage(fmt.Sprintf(`{"n":%d}`, n))); err != nil {
			return err
		}
		fmt.Printf("row %d\n", n)
	}
}

func TestKillLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	var home string
	var last uint64
	for round := range 8 {
		id, rows := runAndKill(t, path, 1+round*round)
		if home == "" {
			home = id
		}
		if id != home {
			t.Fatalf("round %d: home id %s, was %s", round, id, home)
		}
		s, err := Open(t.Context(), path)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		for _, n := range rows {
			if n <= last {
				t.Fatalf("round %d: generation %d was given out before", round, n)
			}
			last = n
			checkRow(t, s, n)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// runAndKill returns what the writer acknowledged before its kill -9, which
// comes in the middle of its work after the given number of rows.
func runAndKill(t *testing.T, path string, rows int) (home string, acknowledged []uint64) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var n uint64
		if _, err := fmt.Sscanf(lines.Text(), "row %d", &n); err == nil {
			acknowledged = append(acknowledged, n)
		} else if _, err := fmt.Sscanf(lines.Text(), "home %s", &home); err != nil {
			t.Fatalf("the writer said %q", lines.Text())
		}
		if len(acknowledged) == rows {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || len(acknowledged) < rows {
		t.Fatalf("the writer ended by itself (%v) after %d rows", err, len(acknowledged))
	}
	return home, acknowledged
}

func checkRow(t *testing.T, s *Store, n uint64) {
	t.Helper()
	key := plugin.Key{Tenant: "default", ID: fmt.Sprintf("p%d", n)}
	if _, err := s.Plugin(t.Context(), key); err != nil {
		t.Errorf("an acknowledged plugin is lost: %v", err)
	}
	want := fmt.Sprintf(`{"n":%d}`, n)
	if doc, err := s.LoadUnit(t.Context(), key); err != nil || string(doc) != want {
		t.Errorf("acknowledged counters of %s: %s, %v, want %s", key, doc, err, want)
	}
}
