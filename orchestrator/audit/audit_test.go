package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/mod/sumdb/tlog"
)

// dirs are where a log of a test lies.
type dirs struct{ log, keys string }

func newDirs(t testing.TB) dirs {
	root := t.TempDir()
	return dirs{filepath.Join(root, "audit"), filepath.Join(root, "keys")}
}

func (d dirs) options() Options {
	return Options{Dir: d.log, KeyDir: d.keys, Logger: slog.New(slog.DiscardHandler)}
}

func (d dirs) open(t testing.TB, change ...func(*Options)) *Log {
	t.Helper()
	opts := d.options()
	for _, c := range change {
		c(&opts)
	}
	l, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func (d dirs) publicKey(t testing.TB) string {
	t.Helper()
	key, err := os.ReadFile(filepath.Join(d.keys, PublicKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	return string(key)
}

func (d dirs) verify(t testing.TB, checkpoints ...[]byte) (Report, error) {
	t.Helper()
	return Verify(t.Context(), d.log, VerifyOptions{PublicKey: d.publicKey(t), Checkpoints: checkpoints})
}

func (d dirs) mustVerify(t testing.TB) Report {
	t.Helper()
	report, err := d.verify(t)
	if err != nil {
		t.Fatalf("Verify: %v", err)
	}
	return report
}

// read returns all records of one action, or of all that are not the log's own.
func (d dirs) read(t testing.TB, action string) []Entry {
	t.Helper()
	var list []Entry
	err := Read(t.Context(), d.log, ReadOptions{}, func(e Entry) error {
		if e.Problem != "" {
			t.Errorf("%s line %d: %s", e.File, e.Line, e.Problem)
		}
		if e.Action == action || action == "" && !strings.HasPrefix(e.Action, ownActions) {
			list = append(list, e)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func call(n int) Record {
	return Record{
		Tenant: "default", Plugin: "weather", Actor: "uid:1000", Action: "tool.call", Target: "forecast",
		Outcome: "ok", Request: fmt.Sprintf("r%d", n), DurationMicros: 1234,
		Params: "hmac-sha256:0000000000000000000000000000000000000000000000000000000000000000",
	}
}

func write(t testing.TB, l *Log, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := l.Write(t.Context(), call(i)); err != nil {
			t.Fatal(err)
		}
	}
}

func checkRequests(t testing.TB, got []Entry, want int) {
	t.Helper()
	if len(got) != want {
		t.Fatalf("%d records, want %d", len(got), want)
	}
	for i, e := range got {
		if e.Request != fmt.Sprintf("r%d", i) {
			t.Fatalf("record %d is of request %s", i, e.Request)
		}
	}
}

func TestWriteReadVerify(t *testing.T) {
	d := newDirs(t)
	l := d.open(t)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	want := Record{
		Time: at, Tenant: "acme", Plugin: "p", Actor: `uid:1 "x" \`, Action: "plugin.install", Target: "é <b> 漢", Outcome: "denied",
		Code: "no", Request: "1", DurationMicros: 7, Params: l.HMAC("acme", []byte("{}")), Details: map[string]any{"a": "<\n>"},
	}
	if err := l.WriteSync(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	got := d.read(t, "plugin.install")[0]
	details, _ := json.Marshal(want.Details)
	if got.Seq != 3 || !got.Time.Equal(at) || got.Tenant != want.Tenant || got.Plugin != want.Plugin || got.Actor != want.Actor ||
		got.Target != want.Target || got.Outcome != want.Outcome || got.Code != want.Code || got.Request != want.Request ||
		got.DurationMicros != 7 || got.Params != want.Params || string(got.Details) != string(details) || len(got.Boot) != 32 {
		t.Errorf("got %+v", got)
	}
	r := d.mustVerify(t)
	if r.Records != 4 || r.Signed != 4 || r.Unsigned != 0 || r.Segments != 1 || r.Epochs != 1 || r.Checkpoints < 2 {
		t.Errorf("report %+v", r)
	}
	for _, f := range []string{segmentOf(1, 1).name, checkpointFile(1)} {
		if st, err := os.Stat(filepath.Join(d.log, f)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", f, st.Mode(), err)
		}
	}
	for _, f := range []string{signKeyFile, hmacKeyFile, HeadFile} {
		if st, err := os.Stat(filepath.Join(d.keys, f)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", f, st.Mode(), err)
		}
	}
	if err := l.Write(t.Context(), call(0)); !errdefs.IsUnavailable(err) {
		t.Errorf("Write after Close = %v, want Unavailable", err)
	}
	if err := l.Healthy(); !errdefs.IsUnavailable(err) {
		t.Errorf("Healthy after Close = %v, want Unavailable", err)
	}
}

// The tree's head is the one of RFC 6962, as another implementation has it.
func TestTreeIsRFC6962(t *testing.T) {
	var mine tree
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(index []int64) ([]tlog.Hash, error) {
		var list []tlog.Hash
		for _, i := range index {
			list = append(list, stored[i])
		}
		return list, nil
	})
	for n := range int64(300) {
		leaf := tlog.RecordHash(fmt.Appendf(nil, "record %d", n))
		more, err := tlog.StoredHashesForRecordHash(n, leaf, reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, more...)
		mine.add(leaf)
		want, err := tlog.TreeHash(n+1, reader)
		if err != nil {
			t.Fatal(err)
		}
		if got := mine.root(); got != want {
			t.Fatalf("root of %d records: %v, want %v", n+1, got, want)
		}
		again, err := mine.state().tree()
		if err != nil || again.root() != want {
			t.Fatalf("the state of %d records does not give the tree again: %v", n+1, err)
		}
	}
}

func TestReopenAndRotate(t *testing.T) {
	d := newDirs(t)
	small := func(o *Options) { o.SegmentSize = 4 << 10 }
	const rounds, each = 5, 40
	for i := range rounds {
		l := d.open(t, small)
		write(t, l, i*each, (i+1)*each)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if r := d.mustVerify(t); r.Unsigned != 0 || r.Epochs != 1 {
			t.Fatalf("round %d: report %+v", i, r)
		}
	}
	checkRequests(t, d.read(t, ""), rounds*each)
	r := d.mustVerify(t)
	if r.Segments < 10 {
		t.Errorf("%d segments, want many", r.Segments)
	}
	all, err := segments(d.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		st, err := os.Stat(filepath.Join(d.log, s.name))
		if err != nil || st.Size() > 4<<10+maxLine {
			t.Errorf("%s: %v, %v", s.name, st.Size(), err)
		}
	}
}

func TestOneWriter(t *testing.T) {
	d := newDirs(t)
	l := d.open(t)
	if _, err := Open(t.Context(), d.options()); !errdefs.IsConflict(err) {
		t.Fatalf("a second Open = %v, want Conflict", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	d.open(t)
}

func TestConcurrentWriters(t *testing.T) {
	d := newDirs(t)
	l := d.open(t, func(o *Options) { o.SegmentSize = 32 << 10 })
	const writers, each = 8, 200
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := range each {
				do := l.Write
				if i%20 == 0 {
					do = l.WriteSync
				}
				if err := do(t.Context(), call(w*each+i)); err != nil {
					t.Error(err)
				}
				_ = l.Checkpoint()
				_ = l.HMAC(fmt.Sprint(w), nil)
			}
		})
	}
	group.Go(func() {
		for range 20 {
			if _, err := d.verify(t); err != nil {
				t.Errorf("Verify while it is written: %v", err)
			}
		}
	})
	group.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, e := range d.read(t, "") {
		seen[e.Request] = true
	}
	if len(seen) != writers*each {
		t.Errorf("%d different records, want %d", len(seen), writers*each)
	}
	if r := d.mustVerify(t); r.Unsigned != 0 {
		t.Errorf("report %+v", r)
	}
}

// Records are signed while the log is open, without more of them coming.
func TestCheckpointFollowsByItself(t *testing.T) {
	d := newDirs(t)
	l := d.open(t)
	write(t, l, 0, 10)
	deadline := time.Now().Add(10 * time.Second)
	for d.mustVerify(t).Unsigned > 0 {
		if time.Now().After(deadline) {
			t.Fatal("the last records are not signed")
		}
		<-time.After(20 * time.Millisecond)
	}
	latest, err := LatestCheckpoint(d.log, d.publicKey(t))
	if err != nil || !bytes.Equal(latest, l.Checkpoint()) {
		t.Errorf("LatestCheckpoint = %q, %v; want %q", latest, err, l.Checkpoint())
	}
	head, err := os.ReadFile(filepath.Join(d.keys, HeadFile))
	if err != nil || !bytes.Equal(head, latest) {
		t.Errorf("head = %q, %v; want %q", head, err, latest)
	}
}

func TestBounds(t *testing.T) {
	d := newDirs(t)
	l := d.open(t)
	long := strings.Repeat("x", MaxText+1)
	for i, r := range []Record{
		{Target: long},
		{Target: strings.Repeat("é\x00", 1<<20)},
		{Target: "a\x1b[31m\n b\u202e\xff"},
		{Details: strings.Repeat(`"`, MaxDetails)},
		{Details: json.RawMessage(`"` + strings.Repeat("\xffa", 7<<10) + `"`)},
		{Details: func() {}},
		{Details: json.RawMessage("{broken")},
		{Tenant: long, Plugin: long, Actor: long, Target: strings.Repeat(`"`, MaxText), Outcome: long, Code: long, Details: long + long},
	} {
		r.Action, r.Request = "x", fmt.Sprintf("r%d", i)
		if err := l.Write(t.Context(), r); err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	d.mustVerify(t)
	got := d.read(t, "x")
	checkRequests(t, got, 8)
	for i, want := range map[int]string{0: long[:MaxText] + "...", 2: "a[31m b"} {
		if got[i].Target != want {
			t.Errorf("record %d: target %q, want %q", i, got[i].Target, want)
		}
	}
	if s := got[1].Target; len(s) > MaxText+3 || !strings.HasSuffix(s, "...") {
		t.Errorf("an enormous target became %d bytes", len(s))
	}
	for _, i := range []int{3, 5, 6} {
		var c cut
		if err := json.Unmarshal(got[i].Details, &c); err != nil || !c.Cut || c.Start == "" && c.Error == "" {
			t.Errorf("record %d: details %.80s, %v; want a mark that they were cut", i, got[i].Details, err)
		}
	}
	for _, action := range []string{"", "audit.closed"} {
		if err := l.Write(t.Context(), Record{Action: action}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("action %q: %v, want InvalidArgument", action, err)
		}
	}
}

func TestHMAC(t *testing.T) {
	d := newDirs(t)
	l := d.open(t)
	a := l.HMAC("a", []byte("1"))
	if !strings.HasPrefix(a, "hmac-sha256:") || len(a) != len("hmac-sha256:")+64 {
		t.Errorf("HMAC = %q", a)
	}
	if a == l.HMAC("b", []byte("1")) || a == l.HMAC("a", []byte("2")) {
		t.Error("two tenants or two values have one HMAC")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if again := d.open(t).HMAC("a", []byte("1")); again != a {
		t.Errorf("after a restart %q, was %q", again, a)
	}
	if other := newDirs(t).open(t).HMAC("a", []byte("1")); other == a {
		t.Error("two hosts have one key")
	}
}

func TestKeys(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(dirs) error
		want  string
	}{
		"readable by others": {func(d dirs) error { return os.Chmod(filepath.Join(d.keys, signKeyFile), 0o640) }, "can be read by others"},
		"no signer key":      {func(d dirs) error { return os.WriteFile(filepath.Join(d.keys, signKeyFile), []byte("x"), 0o600) }, "no signer key"},
		"short hmac key":     {func(d dirs) error { return os.WriteFile(filepath.Join(d.keys, hmacKeyFile), []byte("aa"), 0o600) }, "64 hexadecimal"},
		"head of another":    {func(d dirs) error { return os.WriteFile(filepath.Join(d.keys, HeadFile), []byte("x"), 0o600) }, "cannot trust"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDirs(t)
			if err := errors.Join(d.open(t).Close(), tc.spoil(d)); err != nil {
				t.Fatal(err)
			}
			_, err := Open(t.Context(), d.options())
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Open = %v, want %q", err, tc.want)
			}
		})
	}
	t.Run("the public half is written again", func(t *testing.T) {
		d := newDirs(t)
		l := d.open(t)
		want := d.publicKey(t)
		if err := errors.Join(l.Close(), os.Remove(filepath.Join(d.keys, PublicKeyFile)), d.open(t).Close()); err != nil {
			t.Fatal(err)
		}
		if got := d.publicKey(t); got != want {
			t.Errorf("public key %q, was %q", got, want)
		}
		d.mustVerify(t)
	})
}

// A cancelled request is recorded all the same; ctx ends waiting only.
func TestCancelledContext(t *testing.T) {
	d := newDirs(t)
	l := d.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Write(ctx, call(0)); err != nil {
		t.Errorf("Write = %v, want nil", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	checkRequests(t, d.read(t, ""), 1)
}
