package audit

import (
	"cmp"
	"context"
	"encoding/json"
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

// VerifyOptions say what a log is held against.
type VerifyOptions struct {
	// PublicKey is the content of [PublicKeyFile]; required.
	PublicKey string
	// Checkpoints are signed ones that were kept elsewhere: the log must
	// contain all that each of them signed.
	Checkpoints [][]byte
}

// Report is what Verify found.
type Report struct {
	Epochs      int        `json:"epochs"`
	Segments    int        `json:"segments"`
	Records     int64      `json:"records"`
	Signed      int64      `json:"signed"`      // records that a checkpoint covers
	Unsigned    int64      `json:"unsigned"`    // records after the last checkpoint: nobody can tell whether they were changed
	Checkpoints int64      `json:"checkpoints"` // that verified
	TornBytes   int64      `json:"tornBytes"`   // of an unfinished last line, as a crash leaves it
	First       time.Time  `json:"first,omitzero"`
	Last        time.Time  `json:"last,omitzero"`
	Problems    []*Problem `json:"problems"` // the first of each epoch, in order
}

// Verify reads a whole log, without the daemon and within bounded memory: the
// sequence, the chain, and the tree against every checkpoint. It may run while
// the log is written. The error is of class DataLoss where the log does not
// verify (the report then says where), NotFound where there is none,
// InvalidArgument for a key or a checkpoint that cannot be used.
func Verify(ctx context.Context, dir string, opts VerifyOptions) (Report, error) {
	report := Report{Problems: []*Problem{}}
	verifier, err := newVerifier(strings.TrimSpace(opts.PublicKey))
	if err != nil {
		return report, err
	}
	kept, err := keptCheckpoints(opts.Checkpoints, verifier)
	if err != nil {
		return report, err
	}
	logs, err := openEpochs(dir, verifier)
	if err != nil {
		return report, err
	}
	defer closeEpochs(logs)
	for _, c := range kept { // one that is gone as a whole
		for c.epoch > len(logs) {
			logs = append(logs, &epochLog{epoch: len(logs) + 1})
		}
	}
	report.Epochs = len(logs)
	for _, log := range logs {
		for _, c := range kept {
			if c.epoch == log.epoch {
				log.kept = append(log.kept, c)
			}
		}
		err := log.verify(ctx, dir, &report)
		if problem := (*Problem)(nil); errors.As(err, &problem) {
			report.Problems = append(report.Problems, problem)
		} else if err != nil {
			return report, err
		}
	}
	report.Unsigned = report.Records - report.Signed
	return report, report.failure()
}

func (r *Report) failure() error {
	if len(r.Problems) == 0 {
		return nil
	}
	return fault.New(errdefs.ErrDataLoss, "audit_broken", "the audit log does not verify: %w", r.Problems[0]).
		WithHint("keep a copy of the log and of its keys as they are now, and find out who wrote to that file; records before this place are intact").
		WithDetails(r.Problems)
}

func keptCheckpoints(signed [][]byte, v note.Verifier) ([]checkpoint, error) {
	var list []checkpoint
	for _, s := range signed {
		c, err := parseCheckpoint(s, v)
		if err != nil {
			return nil, fault.New(errdefs.ErrInvalidArgument, "bad_checkpoint", "cannot use the checkpoint that was kept: %w", err).
				WithHint("it must be what `ocmt audit checkpoint` printed, whole, and be signed with the key of this log")
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b checkpoint) int { return cmp.Compare(a.size, b.size) })
	return list, nil
}

// epochLog is what is verified of one epoch.
type epochLog struct {
	epoch    int
	segments []segmentFile
	file     *os.File     // its checkpoints; nil where there are none
	signed   *checkpoints // up to where the file ended when Verify began
	kept     []checkpoint // those from elsewhere, by size

	next   *checkpoint // the next of signed, nil after the last
	last   checkpoint  // the last that the log agreed with
	own    bool        // all records so far are the log's own
	broken *Problem    // what the log itself recorded
}

// openEpochs lists what there is. The checkpoints come first, and only those
// that are there now count: the records that they sign are in the segments
// already, even if the log is being written.
func openEpochs(dir string, v note.Verifier) ([]*epochLog, error) {
	newest, err := newestEpoch(dir)
	if err != nil {
		return nil, err
	}
	var logs []*epochLog
	for epoch := 1; epoch <= newest; epoch++ {
		log := &epochLog{epoch: epoch}
		if err := log.openCheckpoints(dir, v); err != nil {
			closeEpochs(logs)
			return nil, err
		}
		logs = append(logs, log)
	}
	list, err := segments(dir)
	if err != nil {
		closeEpochs(logs)
		return nil, err
	}
	if len(list) == 0 && len(logs) == 0 {
		return nil, noLog(dir)
	}
	for _, s := range list {
		for s.epoch > len(logs) {
			logs = append(logs, &epochLog{epoch: len(logs) + 1})
		}
		logs[s.epoch-1].segments = append(logs[s.epoch-1].segments, s)
	}
	return logs, nil
}

func closeEpochs(logs []*epochLog) {
	for _, log := range logs {
		if log.file != nil {
			log.file.Close()
		}
	}
}

func (l *epochLog) openCheckpoints(dir string, v note.Verifier) error {
	name := checkpointFile(l.epoch)
	f, err := os.Open(filepath.Join(dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read the checkpoints: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("cannot read the checkpoints: %w", err)
	}
	l.file, l.signed = f, newCheckpoints(name, io.LimitReader(f, st.Size()), v)
	return nil
}

// verify goes through the epoch and returns a *Problem for the first place
// that is wrong.
func (l *epochLog) verify(ctx context.Context, dir string, report *Report) error {
	if len(l.segments) == 0 {
		return &Problem{Epoch: l.epoch, Reason: "all its records are missing"}
	}
	l.own = true
	w := &walk{dir: dir, epoch: l.epoch}
	w.visit = func(e *Entry) error { return l.record(w, e, report) }
	report.Segments += len(l.segments)
	if err := l.advance(); err != nil {
		return err
	}
	if err := w.run(ctx, l.segments); err != nil {
		return err
	}
	report.TornBytes += w.torn
	return l.finish(w)
}

// advance reads the next checkpoint of the file.
func (l *epochLog) advance() error {
	l.next = nil
	if l.signed == nil {
		return nil
	}
	c, err := l.signed.next(l.epoch)
	if errors.Is(err, io.EOF) {
		return nil
	}
	l.next = &c
	return err
}

func (l *epochLog) record(w *walk, e *Entry, report *Report) error {
	report.Records++
	if report.First.IsZero() {
		report.First = e.Time
	}
	report.Last = e.Time
	l.own = l.own && strings.HasPrefix(e.Action, ownActions)
	if e.Action == ActionBroken && l.broken == nil {
		l.broken = recordedBreak(l.epoch, e)
	}
	size := w.chain.tree.size
	for len(l.kept) > 0 && l.kept[0].size == size {
		if err := l.compare(w, e, l.kept[0], "a checkpoint that was kept elsewhere"); err != nil {
			return err
		}
		l.kept = l.kept[1:]
	}
	if l.next == nil || l.next.size != size {
		return nil
	}
	if err := l.compare(w, e, *l.next, "the checkpoint"); err != nil {
		return err
	}
	report.Checkpoints++
	report.Signed += size - l.last.size
	l.last = *l.next
	return l.advance()
}

// recordedBreak is the problem for which a new epoch began. It stays one: the
// records before it may verify by themselves, if they were cut off.
func recordedBreak(epoch int, e *Entry) *Problem {
	p := &Problem{Epoch: epoch, File: e.File, Line: e.Line, Seq: e.Seq}
	var was Problem
	if err := json.Unmarshal(e.Details, &was); err != nil {
		was.Reason = err.Error()
	}
	p.Reason = fmt.Sprintf("it records that the log was found broken when it was opened on %s: %s",
		e.Time.Format(time.DateTime), bounded(was.Error()))
	return p
}

// compare holds the tree against a checkpoint of the same size.
func (l *epochLog) compare(w *walk, e *Entry, c checkpoint, what string) error {
	if w.chain.tree.root() == c.root {
		return nil
	}
	return &Problem{Epoch: l.epoch, File: e.File, Line: e.Line, Seq: l.last.size + 1,
		Reason: fmt.Sprintf("the records %d to %d are not those that %s of %d records signed", l.last.size+1, c.size, what, c.size)}
}

// finish checks what must hold at the end of the records.
func (l *epochLog) finish(w *walk) error {
	size := w.chain.tree.size
	end := func(format string, args ...any) *Problem {
		return &Problem{Epoch: l.epoch, File: w.last.File, Line: w.last.Line, Seq: size + 1, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case l.next != nil:
		return end("the log ends after %d records, but a checkpoint signed %d", size, l.next.size)
	case len(l.kept) > 0:
		return end("the log ends after %d records, but a checkpoint that was kept elsewhere signed %d", size, l.kept[0].size)
	case l.broken != nil:
		return l.broken
	case l.epoch > 1:
		return end("a new epoch began without a record that says why")
	case l.last.size == 0 && !l.own:
		return end("no checkpoint signed any of the %d records", size)

	}
	return nil
}
