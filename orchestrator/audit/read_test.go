package audit

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

func TestReadSelects(t *testing.T) {
	d := newDirs(t)
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var passed atomic.Int64
	l := d.open(t, func(o *Options) {
		o.SegmentSize, o.Now = 2<<10, func() time.Time { return start.Add(time.Duration(passed.Load())) }
	})
	for i := range 60 { // one every ten minutes
		r := call(i)
		if i%3 == 0 {
			r.Tenant = "acme"
		}
		if err := l.Write(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if err := l.WriteSync(t.Context(), call(i)); err != nil {
			t.Fatal(err)
		}
		passed.Add(int64(10 * time.Minute))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(mustSegments(t, d)); n < 10 {
		t.Fatalf("%d segments, want many", n)
	}
	for name, tc := range map[string]struct {
		opts  ReadOptions
		count int
		first string // request
	}{
		"tenant":           {ReadOptions{Tenant: "acme"}, 20, "r0"},
		"since":            {ReadOptions{Tenant: "acme", Since: start.Add(9 * time.Hour)}, 2, "r54"},
		"tail":             {ReadOptions{Tenant: "acme", Tail: 3}, 3, "r51"},
		"tail of more":     {ReadOptions{Tenant: "acme", Tail: 1000}, 20, "r0"},
		"tail since":       {ReadOptions{Tenant: "acme", Tail: 5, Since: start.Add(9 * time.Hour)}, 2, "r54"},
		"nothing so late":  {ReadOptions{Since: start.Add(24 * time.Hour)}, 0, ""},
		"nobody's":         {ReadOptions{Tenant: "nobody"}, 0, ""},
		"since the first":  {ReadOptions{Tenant: "acme", Since: start}, 20, "r0"},
		"tail of default":  {ReadOptions{Tenant: "default", Tail: 1}, 1, "r59"},
		"tail over events": {ReadOptions{Tenant: "default", Tail: 50}, 50, "r30"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []Entry
			err := Read(t.Context(), d.log, tc.opts, func(e Entry) error { got = append(got, e); return nil })
			if err != nil || len(got) != tc.count || tc.count > 0 && got[0].Request != tc.first {
				t.Errorf("Read = %d records, %v; want %d", len(got), err, tc.count)
			}
		})
	}
	stop := errors.New("stop")
	if err := Read(t.Context(), d.log, ReadOptions{}, func(Entry) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Read = %v, want the callback's error", err)
	}
	if err := Read(t.Context(), filepath.Join(d.log, "none"), ReadOptions{}, nil); !errdefs.IsNotFound(err) {
		t.Errorf("Read of nothing = %v, want NotFound", err)
	}
}

// Following shows every record once, across segments.
func TestFollow(t *testing.T) {
	for name, tail := range map[string]int{"from the beginning": 0, "from the end": 2} {
		t.Run(name, func(t *testing.T) {
			d := newDirs(t)
			l := d.open(t, func(o *Options) { o.SegmentSize = 2 << 10 })
			write(t, l, 0, 20)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			next, writing := 0, false
			if tail > 0 {
				next = 20 - tail
			}
			err := Read(ctx, d.log, ReadOptions{Tenant: "default", Tail: tail, Follow: true}, func(e Entry) error {
				if want := call(next).Request; e.Request != want {
					t.Errorf("got %s, want %s", e.Request, want)
					cancel()
				}
				if next++; next == 20 && !writing {
					writing = true
					go func() {
						for i := 20; i < 100; i++ {
							if err := l.Write(ctx, call(i)); err != nil {
								t.Error(err)
							}
							if i%10 == 0 {
								<-time.After(followEvery / 4)
							}
						}
					}()
				}
				if next == 100 {
					cancel()
				}
				return nil
			})
			if err != nil || next != 100 {
				t.Errorf("Read = %v after record %d, want nil after 100", err, next)
			}
		})
	}
}

func TestReadShowsWhatIsNoRecord(t *testing.T) {
	d := sample(t)
	name := mustSegments(t, d)[0].name
	path := filepath.Join(d.log, name)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := lines(data, func(l [][]byte) [][]byte {
		l[2], l[4] = []byte("garbage\n"), append(bytes.Repeat([]byte("x"), 3*maxLine), '\n')
		return l
	})
	if err := os.WriteFile(path, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	var bad []Entry
	good := 0
	err = Read(t.Context(), d.log, ReadOptions{Tenant: "default"}, func(e Entry) error {
		if e.Problem != "" {
			bad = append(bad, e)
		} else {
			good++
		}
		return nil
	})
	if err != nil || len(bad) != 2 || bad[0].Line != 3 || bad[1].Line != 5 || bad[0].File != name || good != 61 {
		t.Errorf("Read = %v, %d good, bad %+v; want lines 3 and 5 of %s", err, good, bad, name)
	}
}

func TestExportIsTheLog(t *testing.T) {
	d := sample(t)
	var want, got bytes.Buffer
	files := d.files(t)
	for _, s := range mustSegments(t, d) {
		want.Write(files[s.name])
	}
	if err := Export(t.Context(), d.log, ReadOptions{}, &got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Errorf("exported %d bytes, the log has %d", got.Len(), want.Len())
	}
}

func FuzzParseEntry(f *testing.F) {
	f.Add([]byte(`{"seq":1,"prev":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","boot":"b","time":"2026-01-02T03:04:05Z","action":"x","details":{"a":1}}`))
	f.Add([]byte(`{"seq":-1}`))
	f.Add([]byte("\x00"))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := ParseEntry(line)
		if err == nil && (e.Seq < 1 || e.Action == "" || len(line) > maxLine) {
			t.Errorf("took %q as %+v", line, e)
		}
	})
}

// Whatever a record holds, its line is one line, within bounds, and parses.
func FuzzEncode(f *testing.F) {
	f.Add("tool.call", "target", []byte(`{"a":1}`))
	f.Add("a\"\\\n", "\xff\u2028\u202e", []byte("\"\xff\""))
	f.Fuzz(func(t *testing.T, action, target string, raw []byte) {
		c := &chain{}
		line := appendLine(nil, c, encode(Record{Action: "x" + action, Target: target, Details: raw}, "b"))
		if bytes.Count(line, []byte("\n")) != 1 || line[len(line)-1] != '\n' || len(line) > maxLine {
			t.Fatalf("line %q", line)
		}
		e, err := ParseEntry(line[:len(line)-1])
		if err != nil || e.Seq != 1 || e.Target != bounded(target) || strings.ContainsAny(e.Action, "\n\x1b") {
			t.Errorf("ParseEntry(%q) = %+v, %v", line, e, err)
		}
	})
}

func FuzzParseCheckpoint(f *testing.F) {
	k, err := loadKeys(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	signed, err := checkpoint{epoch: 1, size: 7}.sign(k.signer)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := parseOwn(data, k.verifier); err == nil && (!bytes.Equal(data, signed) || c.size != 7) {
			t.Errorf("took %q", data)
		}
		unfinished(data)
	})
}
