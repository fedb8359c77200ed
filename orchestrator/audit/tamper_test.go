package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// sample is a closed log with several segments and sessions.
func sample(t testing.TB) dirs {
	d := newDirs(t)
	for i := range 3 {
		l := d.open(t, func(o *Options) { o.SegmentSize = 5 << 10 })
		for j := range 20 {
			if err := l.Write(t.Context(), call(i*20+j)); err != nil {
				t.Fatal(err)
			}
			if j == 10 {
				if err := l.WriteSync(t.Context(), call(1000)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if r := d.mustVerify(t); r.Segments < 3 || r.Checkpoints < 6 {
		t.Fatalf("sample has %+v", r)
	}
	return d
}

// files returns what is in the log's directory, but for the lock.
func (d dirs) files(t testing.TB) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(d.log)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, e := range entries {
		if files[e.Name()], err = os.ReadFile(filepath.Join(d.log, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	delete(files, "lock")
	return files
}

// with returns a copy of the log that holds other files; the keys are the same.
func (d dirs) with(t testing.TB, files map[string][]byte) dirs {
	t.Helper()
	c := dirs{t.TempDir(), d.keys}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(c.log, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// Any changed byte is found, whatever it becomes.
func TestEveryByteCounts(t *testing.T) {
	d := sample(t)
	files := d.files(t)
	c := d.with(t, files)
	random := rand.New(rand.NewPCG(1, 2))
	for _, name := range slices.Sorted(maps.Keys(files)) {
		data := files[name]
		offsets := []int{0, len(data) - 1, len(data) - 2}
		for range 150 {
			offsets = append(offsets, random.IntN(len(data)))
		}
		for i, b := range data { // the ends of lines are where parsers err
			if b == '\n' && (strings.HasSuffix(name, checkpointSuffix) || i%5 == 0) {
				offsets = append(offsets, i, max(i-1, 0), min(i+1, len(data)-1))
			}
		}
		for _, at := range offsets {
			changed := bytes.Clone(data)
			to := []byte{data[at] ^ 1<<random.IntN(8), byte(random.IntN(256)), '\n', ' '}[random.IntN(4)]
			if to == data[at] {
				to ^= 1
			}
			changed[at] = to
			if err := os.WriteFile(filepath.Join(c.log, name), changed, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := c.verify(t); !errdefs.IsDataLoss(err) {
				t.Errorf("%s: byte %d of %d from %q to %q: Verify = %v, want DataLoss", name, at, len(data), data[at], to, err)
			}
		}
		if err := os.WriteFile(filepath.Join(c.log, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.mustVerify(t)
}

// lines changes the lines of a file.
func lines(data []byte, change func([][]byte) [][]byte) []byte {
	list := bytes.SplitAfter(data, []byte("\n"))
	return bytes.Join(change(list[:len(list)-1]), nil)
}

func TestTampering(t *testing.T) {
	d := sample(t)
	original := d.files(t)
	all, err := segments(d.log)
	if err != nil {
		t.Fatal(err)
	}
	first, second, last := all[0].name, all[1].name, all[len(all)-1].name
	signatures := checkpointFile(1)
	edit := func(name string, change func([][]byte) [][]byte) func(map[string][]byte) {
		return func(f map[string][]byte) { f[name] = lines(f[name], change) }
	}
	for name, tc := range map[string]struct {
		change func(map[string][]byte)
		want   string // of the message
	}{
		"edited": {edit(second, func(l [][]byte) [][]byte {
			l[3] = bytes.Replace(l[3], []byte("weather"), []byte("w3ather"), 1)
			return l
		}), fmt.Sprintf("%s, line 4, record %d", second, all[1].first+3)},
		"edited last": {edit(last, func(l [][]byte) [][]byte {
			l[len(l)-1] = bytes.Replace(l[len(l)-1], []byte("host"), []byte("h0st"), 1)
			return l
		}), "are not those that the checkpoint"},
		"swapped":    {edit(second, func(l [][]byte) [][]byte { l[3], l[4] = l[4], l[3]; return l }), second + ", line 4"},
		"duplicated": {edit(second, func(l [][]byte) [][]byte { return slices.Insert(l, 4, l[3]) }), second + ", line 5"},
		"inserted": {edit(second, func(l [][]byte) [][]byte {
			return slices.Insert(l, 4, []byte(`{"seq":1,"prev":"","action":"x"}`+"\n"))
		}), second + ", line 5"},
		"empty line":         {edit(second, func(l [][]byte) [][]byte { return slices.Insert(l, 4, []byte("\n")) }), second + ", line 5"},
		"deleted":            {edit(second, func(l [][]byte) [][]byte { return slices.Delete(l, 3, 4) }), second + ", line 4"},
		"first deleted":      {edit(second, func(l [][]byte) [][]byte { return l[1:] }), second + ", line 1"},
		"end of a segment":   {edit(first, func(l [][]byte) [][]byte { return l[:len(l)-1] }), "are missing"},
		"emptied":            {func(f map[string][]byte) { f[first] = nil }, first + ", record 1: it is empty"},
		"truncated":          {edit(last, func(l [][]byte) [][]byte { return l[:len(l)-1] }), "the log ends after"},
		"truncated mid-line": {func(f map[string][]byte) { f[last] = f[last][:len(f[last])-5] }, "the log ends after"},
		"line end inside":    {func(f map[string][]byte) { f[first] = f[first][:len(f[first])-1] }, "no end"},
		"first segment":      {func(f map[string][]byte) { delete(f, first) }, fmt.Sprintf("the records 1 to %d are missing", all[1].first-1)},
		"middle segment":     {func(f map[string][]byte) { delete(f, second) }, "are missing"},
		"last segment":       {func(f map[string][]byte) { delete(f, last) }, "the log ends after"},
		"all segments": {func(f map[string][]byte) {
			for _, s := range all {
				delete(f, s.name)
			}
		}, "all its records are missing"},
		"long line":             {edit(second, func(l [][]byte) [][]byte { return slices.Insert(l, 1, bytes.Repeat([]byte("x"), 2*maxLine)) }), "more than"},
		"no checkpoints":        {func(f map[string][]byte) { delete(f, signatures) }, "no checkpoint signed"},
		"empty checkpoints":     {func(f map[string][]byte) { f[signatures] = nil }, "no checkpoint signed"},
		"checkpoints swapped":   {edit(signatures, func(l [][]byte) [][]byte { return slices.Concat(l[5:10], l[:5], l[10:]) }), signatures + ", line 6"},
		"checkpoint twice":      {edit(signatures, func(l [][]byte) [][]byte { return slices.Concat(l[:5], l) }), signatures + ", line 6"},
		"checkpoint edited":     {edit(signatures, func(l [][]byte) [][]byte { l[1] = []byte("1\n"); return l }), "invalid signature"},
		"other epoch's segment": {func(f map[string][]byte) { f["0002-000000000001.jsonl"] = f[first] }, "new epoch began without"},
	} {
		t.Run(name, func(t *testing.T) {
			files := maps.Clone(original)
			tc.change(files)
			report, err := d.with(t, files).verify(t)
			if !errdefs.IsDataLoss(err) || !strings.Contains(fmt.Sprint(err), tc.want) {
				t.Errorf("Verify = %v, want DataLoss with %q", err, tc.want)
			}
			if len(report.Problems) != 1 {
				t.Errorf("problems %v, want one", report.Problems)
			}
		})
	}
}

// Records that were never signed can be changed together with their chain; the
// report says how many these are.
func TestUnsignedRecordsAreCounted(t *testing.T) {
	d := sample(t)
	files := d.files(t)
	signatures := checkpointFile(1)
	files[signatures] = lines(files[signatures], func(l [][]byte) [][]byte { return l[:len(l)-5] })
	report, err := d.with(t, files).verify(t)
	if err != nil || report.Unsigned == 0 || report.Signed+report.Unsigned != report.Records {
		t.Errorf("Verify = %+v, %v; want some unsigned records", report, err)
	}
}

func TestCheckpointsFromElsewhere(t *testing.T) {
	d := newDirs(t)
	l := d.open(t)
	write(t, l, 0, 10)
	if err := l.WriteSync(t.Context(), call(10)); err != nil {
		t.Fatal(err)
	}
	early := l.Checkpoint()
	short := d.files(t)
	write(t, l, 11, 20)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	late := l.Checkpoint()

	if _, err := d.verify(t, early, late); err != nil {
		t.Errorf("with checkpoints of the log itself: %v", err)
	}
	if _, err := d.with(t, short).verify(t, late); !errdefs.IsDataLoss(err) || !strings.Contains(err.Error(), "kept elsewhere signed") {
		t.Errorf("with one that is ahead: %v, want DataLoss", err)
	}
	// The same key signs another history.
	if err := errors.Join(os.RemoveAll(d.log), os.Remove(filepath.Join(d.keys, HeadFile))); err != nil {
		t.Fatal(err)
	}
	other := d.open(t)
	write(t, other, 100, 120)
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	d.mustVerify(t)
	if _, err := d.verify(t, early); !errdefs.IsDataLoss(err) || !strings.Contains(err.Error(), "kept elsewhere") {
		t.Errorf("with one of a history that was replaced: %v, want DataLoss", err)
	}
	stranger := newDirs(t)
	foreign := stranger.open(t).Checkpoint()
	for name, signed := range map[string][]byte{"of another key": foreign, "garbage": []byte("x"), "cut": early[:len(early)-9]} {
		if _, err := d.verify(t, signed); !errdefs.IsInvalidArgument(err) {
			t.Errorf("with one that is %s: %v, want InvalidArgument", name, err)
		}
	}
	if _, err := Verify(t.Context(), d.log, VerifyOptions{PublicKey: stranger.publicKey(t)}); !errdefs.IsDataLoss(err) {
		t.Errorf("with another public key: %v, want DataLoss", err)
	}
	if _, err := Verify(t.Context(), d.log, VerifyOptions{PublicKey: "x"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("with no public key: %v, want InvalidArgument", err)
	}
	if _, err := Verify(t.Context(), filepath.Join(d.log, "none"), VerifyOptions{PublicKey: d.publicKey(t)}); !errdefs.IsNotFound(err) {
		t.Errorf("without a log: %v, want NotFound", err)
	}
}

// A log that does not verify is not written on: a new epoch begins, which says
// so, and Verify goes on failing on the old one.
func TestOpenOfABrokenLog(t *testing.T) {
	for name, spoil := range map[string]func(d dirs, all []segmentFile) error{
		"edited": func(d dirs, all []segmentFile) error {
			path := filepath.Join(d.log, all[len(all)-1].name)
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			data[len(data)/2] ^= 1
			return os.WriteFile(path, data, 0o600)
		},
		"truncated, checkpoints too": func(d dirs, all []segmentFile) error {
			var err error
			for _, s := range all[1:] {
				err = errors.Join(err, os.Remove(filepath.Join(d.log, s.name)))
			}
			path := filepath.Join(d.log, checkpointFile(1))
			data, readErr := os.ReadFile(path)
			data = lines(data, func(l [][]byte) [][]byte { return l[:5] })
			return errors.Join(err, readErr, os.WriteFile(path, data, 0o600))
		},
		"removed": func(d dirs, _ []segmentFile) error { return os.RemoveAll(d.log) },
		"no checkpoints": func(d dirs, _ []segmentFile) error {
			return errors.Join(os.Remove(filepath.Join(d.log, checkpointFile(1))), os.Remove(filepath.Join(d.keys, HeadFile)))
		},
		"damaged checkpoint": func(d dirs, _ []segmentFile) error { return flipLast(filepath.Join(d.log, checkpointFile(1)), 1) },
		"edited checkpoint":  func(d dirs, _ []segmentFile) error { return flipLast(filepath.Join(d.log, checkpointFile(1)), 40) },
		"other key": func(d dirs, _ []segmentFile) error {
			return errors.Join(os.Remove(filepath.Join(d.keys, signKeyFile)), os.Remove(filepath.Join(d.keys, HeadFile)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := sample(t)
			all, err := segments(d.log)
			if err != nil {
				t.Fatal(err)
			}
			if err := spoil(d, all); err != nil {
				t.Fatal(err)
			}
			before := len(d.everything(t))
			for i := range 2 { // it is found broken once
				l := d.open(t)
				write(t, l, i*10, i*10+10)
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			}
			report, err := d.verify(t)
			if !errdefs.IsDataLoss(err) || report.Epochs != 2 {
				t.Fatalf("Verify = %+v, %v; want DataLoss in two epochs", report, err)
			}
			second := report.Problems[len(report.Problems)-1]
			if second.Epoch != 2 || !strings.Contains(second.Reason, "found broken when it was opened") {
				t.Errorf("the new epoch says %v", second)
			}
			if got := len(d.everything(t)) - before; got < 20 {
				t.Errorf("%d records were added, want 20 and the log's own", got)
			}
			// A change to the new epoch is found on its own.
			for _, s := range ofEpoch(mustSegments(t, d), 2) {
				if err := flipLast(filepath.Join(d.log, s.name), 400); err != nil {
					t.Fatal(err)
				}
			}
			report, _ = d.verify(t)
			if got := report.Problems[len(report.Problems)-1]; strings.Contains(got.Reason, "found broken") {
				t.Errorf("a change to the new epoch is not reported: %v", report.Problems)
			}
		})
	}
}

func mustSegments(t *testing.T, d dirs) []segmentFile {
	t.Helper()
	all, err := segments(d.log)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// everything returns all records, those that cannot be read included.
func (d dirs) everything(t *testing.T) []Entry {
	t.Helper()
	var list []Entry
	err := Read(t.Context(), d.log, ReadOptions{}, func(e Entry) error { list = append(list, e); return nil })
	if err != nil && !errdefs.IsNotFound(err) {
		t.Fatal(err)
	}
	return list
}

// flipLast changes the byte that lies so far before the end.
func flipLast(path string, back int) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	data[len(data)-back] ^= 1
	return os.WriteFile(path, data, 0o600)
}

// What a crash leaves unfinished is mended, and nothing else is lost.
func TestTornEnds(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(d dirs, last string) error
		torn  int
	}{
		"record": {func(d dirs, last string) error { return appendTo(filepath.Join(d.log, last), `{"seq":99,"pr`) }, 1},
		"zeros": {func(d dirs, last string) error {
			return appendTo(filepath.Join(d.log, last), strings.Repeat("\x00", 4096))
		}, 1},
		"checkpoint": {func(d dirs, _ string) error {
			return appendTo(filepath.Join(d.log, checkpointFile(1)), "ocmt-audit-00/1\n200\nAAAA")
		}, 0},
		"empty segment": {func(d dirs, _ string) error {
			report, err := d.report()
			return errors.Join(err, appendTo(filepath.Join(d.log, segmentOf(1, report.Records+1).name), ""))
		}, 0},
		"segment without a whole record": {func(d dirs, _ string) error {
			report, err := d.report()
			return errors.Join(err, appendTo(filepath.Join(d.log, segmentOf(1, report.Records+1).name), `{"se`))
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			d := sample(t)
			before := d.mustVerify(t).Records
			all := mustSegments(t, d)
			if err := tc.spoil(d, all[len(all)-1].name); err != nil {
				t.Fatal(err)
			}
			if r := d.mustVerify(t); r.Records != before || (r.TornBytes > 0) != (tc.torn > 0) {
				t.Errorf("report %+v, want %d records", r, before)
			}
			l := d.open(t)
			write(t, l, 0, 5)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if r := d.mustVerify(t); r.Records < before+5 || r.Epochs != 1 || r.TornBytes != 0 {
				t.Errorf("report %+v after it was mended", r)
			}
			if got := len(d.read(t, ActionTorn)); got != tc.torn {
				t.Errorf("%d records of torn lines, want %d", got, tc.torn)
			}
			if left, _ := filepath.Glob(filepath.Join(d.log, "*"+tornSuffix)); len(left) != tc.torn {
				t.Errorf("torn files %v, want %d", left, tc.torn)
			}
		})
	}
}

func (d dirs) report() (Report, error) {
	key, err := os.ReadFile(filepath.Join(d.keys, PublicKeyFile))
	if err != nil {
		return Report{}, err
	}
	return Verify(context.Background(), d.log, VerifyOptions{PublicKey: string(key)})
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
