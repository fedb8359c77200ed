package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Problem is a place in the log that does not verify.
type Problem struct {
	Epoch  int    `json:"epoch"`
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"` // in the file, from 1
	Seq    int64  `json:"seq,omitempty"`  // of the first record that may be wrong
	Reason string `json:"reason"`
}

// Error says where and why.
func (p *Problem) Error() string {
	at := fmt.Sprintf("epoch %d", p.Epoch)
	if p.File != "" {
		at = p.File
	}
	if p.Line > 0 {
		at += fmt.Sprintf(", line %d", p.Line)
	}
	if p.Seq > 0 {
		at += fmt.Sprintf(", record %d", p.Seq)
	}
	return at + ": " + p.Reason
}

// walk goes through the segments of one epoch and checks that each record
// continues the one before.
type walk struct {
	dir   string
	epoch int
	chain chain
	last  Entry // the record before; its Raw is gone
	torn  int64 // bytes of an unfinished last line
	end   int64 // size of the last segment without it
	// visit sees each record after it was added to the chain.
	visit func(*Entry) error
}

// run walks the segments in order. It returns a *Problem at the first place
// that is wrong; other errors are failures to read.
func (w *walk) run(ctx context.Context, list []segmentFile) error {
	for i, s := range list {
		if want := w.chain.tree.size + 1; s.first != want {
			reason := fmt.Sprintf("the records %d to %d are missing", want, s.first-1)
			if s.first < want {
				reason = fmt.Sprintf("it begins with record %d again", s.first)
			}
			return &Problem{Epoch: w.epoch, File: s.name, Seq: min(want, s.first), Reason: reason}
		}
		if err := w.segment(ctx, s, i == len(list)-1); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) segment(ctx context.Context, s segmentFile, last bool) error {
	f, err := os.Open(filepath.Join(w.dir, s.name))
	if err != nil {
		return fmt.Errorf("cannot read the audit log: %w", err)
	}
	defer f.Close()
	lines := newLineReader(f)
	w.end = 0
	for {
		line, err := lines.next()
		switch {
		case errors.Is(err, io.EOF):
			if lines.line == 0 && !last {
				return &Problem{Epoch: w.epoch, File: s.name, Seq: s.first, Reason: "it is empty"}
			}
			return nil
		case errors.Is(err, errTorn) && last:
			w.torn = int64(len(line))
			return nil
		case errors.Is(err, errTorn), errors.Is(err, errTooLong):
			return w.problem(s, lines.line, err.Error())
		case err != nil:
			return fmt.Errorf("cannot read the audit log: %w", err)
		}
		if lines.line%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err := w.record(s, lines.line, line); err != nil {
			return err
		}
		w.end = lines.end
	}
}

// record checks one line and adds it to the chain.
func (w *walk) record(s segmentFile, n int, line []byte) error {
	e, err := ParseEntry(line)
	if err != nil {
		return w.problem(s, n, "it is no record: "+err.Error())
	}
	if want := w.chain.tree.size + 1; e.Seq != want {
		return w.problem(s, n, fmt.Sprintf("it has the number %d where %d belongs", e.Seq, want))
	}
	if e.Prev != w.chain.prev {
		if w.last.Seq == 0 {
			return w.problem(s, n, "it continues another record than the one before")
		}
		return &Problem{Epoch: w.epoch, File: w.last.File, Line: w.last.Line, Seq: w.last.Seq,
			Reason: fmt.Sprintf("the next record (%s, line %d) does not continue it: one of the two was changed", s.name, n)}
	}
	if n == 1 {
		if err := w.header(&e); err != nil {
			return w.problem(s, n, err.Error())
		}
	}
	e.File, e.Line = s.name, n
	w.chain.add(line)
	if w.visit != nil {
		if err := w.visit(&e); err != nil {
			return err
		}
	}
	w.last = e
	w.last.Raw, w.last.Details = nil, nil
	return nil
}

// header checks the first record of a segment.
func (w *walk) header(e *Entry) error {
	t, err := headerTree(e)
	if err != nil {
		return err
	}
	if t.size != w.chain.tree.size || t.root() != w.chain.tree.root() {
		return errors.New("it does not hold the tree of the records before it")
	}
	return nil
}

// headerTree returns the tree that the first record of a segment holds.
func headerTree(e *Entry) (tree, error) {
	if e.Action != ActionSegment {
		return tree{}, errors.New("it is not the first record of a segment")
	}
	var state treeState
	if err := json.Unmarshal(e.Details, &state); err != nil {
		return tree{}, fmt.Errorf("its details do not hold the tree: %w", err)
	}
	return state.tree()
}

func (w *walk) problem(s segmentFile, line int, reason string) error {
	return &Problem{Epoch: w.epoch, File: s.name, Line: line, Seq: w.chain.tree.size + 1, Reason: reason}
}
