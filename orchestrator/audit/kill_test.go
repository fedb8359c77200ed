package audit

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// childEnv turns the test binary into the writer of TestKillLosesNothing.
const childEnv = "OCMT_AUDIT_TEST_WRITER"

func TestMain(m *testing.M) {
	if dirs := os.Getenv(childEnv); dirs != "" {
		if err := writeForEver(dirs); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// writeForEver prints the request of each record once it is acknowledged.
func writeForEver(paths string) error {
	ctx := context.Background()
	log, keys, _ := strings.Cut(paths, ":")
	l, err := Open(ctx, Options{Dir: log, KeyDir: keys, Logger: slog.New(slog.DiscardHandler), SegmentSize: 64 << 10})
	if err != nil {
		return err
	}
	failed := make(chan error)
	for w := range 4 {
		go func() {
			for i := 0; ; i++ {
				r := call(0)
				r.Request = fmt.Sprintf("p%d-w%d-%d", os.Getpid(), w, i)
				do := l.Write
				if w == 0 {
					do = l.WriteSync
				}
				if err := do(ctx, r); err != nil {
					failed <- err
					return
				}
				fmt.Println(r.Request) // one write(2)
			}
		}()
	}
	return <-failed
}

func TestKillLosesNothing(t *testing.T) {
	d := newDirs(t)
	acknowledged := map[string]bool{}
	for round := range 8 {
		for _, request := range runAndKill(t, d, time.Duration(10+rand.IntN(80))*time.Millisecond) {
			acknowledged[request] = true
		}
		if r := d.mustVerify(t); r.Epochs != 1 {
			t.Fatalf("round %d: report %+v", round, r)
		}
	}
	if err := d.open(t).Close(); err != nil {
		t.Fatal(err)
	}
	if r := d.mustVerify(t); r.Unsigned != 0 || r.Epochs != 1 || r.TornBytes != 0 {
		t.Errorf("report %+v after the last start", r)
	}
	for _, e := range d.read(t, "") {
		delete(acknowledged, e.Request)
	}
	if len(acknowledged) > 0 {
		t.Errorf("%d acknowledged records are lost", len(acknowledged))
	}
}

// runAndKill lets a writer run for a while after its first record and returns
// what it acknowledged.
func runAndKill(t *testing.T, d dirs, after time.Duration) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+d.log+":"+d.keys)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var requests []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if len(requests) == 0 {
			time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
		requests = append(requests, lines.Text())
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("the writer ended by itself: %v", err)
	}
	if len(requests) == 0 {
		t.Fatal("the writer acknowledged nothing")
	}
	return requests
}
