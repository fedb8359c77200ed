package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/mod/sumdb/note"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// followEvery is how often a follower looks for more.
const followEvery = 100 * time.Millisecond

// ReadOptions select records.
type ReadOptions struct {
	Since  time.Time // zero is from the beginning
	Tenant string    // "" is of all tenants and of the host
	Tail   int       // only the last so many; 0 or less is all
	Follow bool      // then go on until ctx ends
}

func (o ReadOptions) take(e *Entry) bool {
	return e.Problem != "" || (o.Tenant == "" || e.Tenant == o.Tenant) && !e.Time.Before(o.Since)
}

// Read calls fn for each record in order, without holding the log against
// anything: that is for Verify. A line that is no record comes as an Entry with
// a Problem, whatever is selected. Read needs no daemon and may run beside one.
// It ends with fn's error, with nil at the end or, following, when ctx ends;
// NotFound where there is no log.
func Read(ctx context.Context, dir string, opts ReadOptions, fn func(Entry) error) error {
	list, err := segments(dir)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return noLog(dir)
	}
	r := &reader{dir: dir, opts: opts, fn: fn, list: from(dir, list, opts.Since)}
	if opts.Tail > 0 {
		err = r.tail(ctx)
	} else {
		err = r.all(ctx)
	}
	if err == nil && opts.Follow {
		err = r.follow(ctx)
	}
	return err
}

// Export writes the selected records to w as JSONL, every line as it is in the
// log: who has all of them can check the chain. A line that is too long to be a
// record comes out empty.
func Export(ctx context.Context, dir string, opts ReadOptions, w io.Writer) error {
	return Read(ctx, dir, opts, func(e Entry) error {
		_, err := fmt.Fprintf(w, "%s\n", e.Raw)
		return err
	})
}

// LatestCheckpoint returns the newest signed checkpoint of a log, verified with
// the content of [PublicKeyFile]. The errors are of class NotFound, DataLoss if
// it does not verify, InvalidArgument for the key.
func LatestCheckpoint(dir, publicKey string) ([]byte, error) {
	v, err := newVerifier(strings.TrimSpace(publicKey))
	if err != nil {
		return nil, err
	}
	epoch, err := newestEpoch(dir)
	if err != nil {
		return nil, err
	}
	signed, _, err := lastCheckpoint(dir, epoch)
	if err != nil {
		return nil, fmt.Errorf("cannot read the checkpoints: %w", err)
	}
	if signed == nil {
		return nil, noLog(dir)
	}
	if _, err := parseOwn(signed, v); err != nil {
		return nil, fault.New(errdefs.ErrDataLoss, "audit_broken", "cannot trust the last checkpoint: %w", err).
			WithHint("`ocmt audit verify` shows what else changed")
	}
	return signed, nil
}

func noLog(dir string) error {
	return fault.New(errdefs.ErrNotFound, "no_audit_log", "there is no audit log in %s", dir).
		WithHint("`ocmt serve` writes one from its first start on")
}

func newVerifier(publicKey string) (note.Verifier, error) {
	v, err := note.NewVerifier(publicKey)
	if err != nil {
		return nil, fault.New(errdefs.ErrInvalidArgument, "bad_audit_key", "cannot use the public key: %w", err).
			WithHint("it is the one line of %s", PublicKeyFile)
	}
	return v, nil
}

// slack is how much older a record may be than the one that begins its
// segment: callers say when something happened, which may be a while ago.
const slack = time.Hour

// from leaves out segments that hold nothing from since on.
func from(dir string, list []segmentFile, since time.Time) []segmentFile {
	if since.IsZero() {
		return list
	}
	for i := len(list) - 1; i > 0; i-- {
		if e, err := header(dir, list[i]); err == nil && e.Time.Before(since.Add(-slack)) {
			return list[i:]
		}
	}
	return list
}

// reader reads segments up to where they end now.
type reader struct {
	dir  string
	opts ReadOptions
	fn   func(Entry) error
	list []segmentFile // the last one read is list[0] once all or tail returned
	line int           // of the last line read in it
	end  int64         // offset after it
}

func (r *reader) all(ctx context.Context) error {
	for {
		if err := r.segment(ctx, r.fn); err != nil {
			return err
		}
		if len(r.list) == 1 {
			return nil
		}
		r.step()
	}
}

func (r *reader) step() { r.list, r.line, r.end = r.list[1:], 0, 0 }

// tail shows the last records, from the last segments that hold enough.
func (r *reader) tail(ctx context.Context) error {
	var shown []Entry
	list := r.list
	var line int
	var end int64
	for i := len(list) - 1; i >= 0 && len(shown) < r.opts.Tail; i-- {
		want := r.opts.Tail - len(shown)
		var got []Entry
		r.list, r.line, r.end = list[i:i+1], 0, 0
		err := r.segment(ctx, func(e Entry) error {
			e.Raw = slices.Clone(e.Raw)
			e.Details = slices.Clone(e.Details)
			if got = append(got, e); len(got) >= 2*want {
				got = slices.Clone(got[len(got)-want:])
			}
			return nil
		})
		if err != nil {
			return err
		}
		if i == len(list)-1 {
			line, end = r.line, r.end
		}
		shown = append(got[max(0, len(got)-want):], shown...)
	}
	r.list, r.line, r.end = list[len(list)-1:], line, end
	for _, e := range shown {
		if err := r.fn(e); err != nil {
			return err
		}
	}
	return nil
}

// follow goes on after the last record until ctx ends.
func (r *reader) follow(ctx context.Context) error {
	ticker := time.NewTicker(followEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		// A newer segment is looked for first: once there is one, the present
		// one has its end.
		list, err := segments(r.dir)
		if err != nil {
			return err
		}
		at := slices.Index(list, r.list[0])
		if at < 0 {
			return fault.New(errdefs.ErrDataLoss, "audit_broken", "the segment %s of the audit log is gone", r.list[0].name).
				WithHint("`ocmt audit verify` shows what is missing")
		}
		r.list = list[at:]
		if err := r.all(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// segment reads on in list[0] and gives what is selected to fn. An unfinished
// last line is left for the next time.
func (r *reader) segment(ctx context.Context, fn func(Entry) error) error {
	s := r.list[0]
	f, err := os.Open(filepath.Join(r.dir, s.name))
	if err != nil {
		return fmt.Errorf("cannot read the audit log: %w", err)
	}
	defer f.Close()
	if _, err := f.Seek(r.end, io.SeekStart); err != nil {
		return fmt.Errorf("cannot read the audit log: %w", err)
	}
	lines := newLineReader(f)
	first, start := r.line, r.end
	for {
		line, err := lines.next()
		var e Entry
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, errTorn):
			return nil
		case errors.Is(err, errTooLong):
			e.Problem = err.Error()
			if err := lines.skip(); err != nil {
				return nil
			}
		case err != nil:
			return fmt.Errorf("cannot read the audit log: %w", err)
		default:
			if e, err = ParseEntry(line); err != nil {
				e = Entry{Problem: "it is no record: " + err.Error(), Raw: line}
			}
		}
		if lines.line%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		r.line, r.end = first+lines.line, start+lines.end
		e.File, e.Line = s.name, r.line
		if r.opts.take(&e) {
			if err := fn(e); err != nil {
				return err
			}
		}
	}
}
