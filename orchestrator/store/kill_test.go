package store

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
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
		if err := s.PutPluginWithGrants(ctx, p, grantsOf(n), Consent{Digest: fmt.Sprint(n), Actor: "uid:7", At: time.Unix(int64(n), 0)}); err != nil {
			return err
		}
		if err := s.PutGrants(ctx, p.Key, []policy.Grant{{Kind: policy.Env, Target: "LATER", Value: fmt.Sprint(n)}}); err != nil {
			return err
		}
		if err := s.SaveUnit(ctx, p.Key, json.RawMessage(fmt.Sprintf(`{"n":%d}`, n))); err != nil {
			return err
		}
		uid, err := s.UID(ctx, p.Key)
		if err != nil {
			return err
		}
		fmt.Printf("row %d uid %d\n", n, uid)
	}
}

// grantsOf are the grants of the n-th plugin.
func grantsOf(n uint64) []policy.Grant {
	var grants []policy.Grant
	for i := range 10 {
		grants = append(grants, policy.Grant{Kind: policy.Env, Target: fmt.Sprintf("V%d", i), Value: fmt.Sprint(n), At: time.Unix(int64(n), 0).UTC()})
	}
	return grants
}

func TestKillLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	var home string
	var last uint64
	uids := map[uint32]uint64{}
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
		for _, row := range rows {
			n := row.n
			if n <= last {
				t.Fatalf("round %d: generation %d was given out before", round, n)
			}
			last = n
			checkRow(t, s, n)
			if other, taken := uids[row.uid]; taken {
				t.Errorf("uid %d is that of plugin %d and of %d", row.uid, other, n)
			}
			uids[row.uid] = n
			if uid, err := s.UID(t.Context(), plugin.Key{Tenant: "default", ID: fmt.Sprintf("p%d", n)}); err != nil || uid != row.uid {
				t.Errorf("plugin %d has uid %d, %v, and was told %d", n, uid, err, row.uid)
			}
		}
		checkWhole(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// row is what the writer acknowledged: a plugin, and its user id.
type row struct {
	n   uint64
	uid uint32
}

// runAndKill returns what the writer acknowledged before its kill -9, which
// comes in the middle of its work after the given number of rows.
func runAndKill(t *testing.T, path string, rows int) (home string, acknowledged []row) {
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
		var r row
		if _, err := fmt.Sscanf(lines.Text(), "row %d uid %d", &r.n, &r.uid); err == nil {
			acknowledged = append(acknowledged, r)
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
	if grants, err := s.Grants(t.Context(), key); err != nil || len(grants) != 11 {
		t.Errorf("%d acknowledged grants of %s, %v, want 11", len(grants), key, err)
	}
}

// checkWhole checks that no plugin is there without the grants and the
// consent that it was installed with, acknowledged or not.
func checkWhole(t *testing.T, s *Store) {
	t.Helper()
	plugins, err := s.Plugins(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.AllGrants(t.Context())
	if err != nil || len(all) != len(plugins) {
		t.Fatalf("%d plugins have grants, %v, want %d", len(all), err, len(plugins))
	}
	for _, p := range plugins {
		var n uint64
		if _, err := fmt.Sscanf(p.Key.ID, "p%d", &n); err != nil {
			t.Fatal(err)
		}
		grants := slices.DeleteFunc(all[p.Key], func(g policy.Grant) bool { return g.Target == "LATER" })
		if diff := cmp.Diff(grantsOf(n), grants); diff != "" {
			t.Errorf("%s: -want +got:\n%s", p.Key, diff)
		}
		if c, err := s.Consent(t.Context(), p.Key); err != nil || c.Digest != fmt.Sprint(n) {
			t.Errorf("%s: consent %+v, %v", p.Key, c, err)
		}
	}
}
