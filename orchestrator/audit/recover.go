package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// found is what Open finds on disk and goes on from.
type found struct {
	epoch    int // the one to write to
	chain    chain
	segment  *segmentFile // to append to; nil for a new one
	size     int64        // of it
	end      int64        // of the checkpoints
	last     checkpoint   // the newest
	signed   []byte       // the same as text
	torn     int64        // bytes that were moved aside
	tornFile string
	broken   *Problem // why a new epoch begins
}

// recoverLog looks at the end of a log, from the last checkpoint on: what lies
// before is for Verify. It moves an unfinished last line aside. Where the log
// does not verify it stays as it is, and what follows is a new epoch.
func recoverLog(ctx context.Context, dir string, k *keys) (found, error) {
	all, err := segments(dir)
	if err != nil {
		return found{}, err
	}
	epoch, err := newestEpoch(dir)
	if err != nil {
		return found{}, err
	}
	if len(all) > 0 {
		epoch = max(epoch, all[len(all)-1].epoch)
	}
	head, err := k.head()
	if err != nil {
		return found{}, err
	}
	if head != nil && head.epoch > epoch {
		return found{epoch: head.epoch + 1, broken: &Problem{Epoch: head.epoch,
			Reason: fmt.Sprintf("the log is missing, of which %d records were signed", head.size)}}, nil
	}
	if epoch == 0 {
		return found{epoch: 1}, nil
	}
	f := found{epoch: epoch}
	err = f.resume(ctx, dir, ofEpoch(all, epoch), k, head)
	if problem := (*Problem)(nil); errors.As(err, &problem) {
		return found{epoch: epoch + 1, broken: problem}, nil
	}
	if epoch > 1 && f.chain.tree.size < 2 {
		f.broken = &Problem{Epoch: epoch - 1, Reason: "the log was found broken; the process ended before it could record where"}
	}
	return f, err
}

// resume goes on with an epoch; a *Problem says why that cannot be.
func (f *found) resume(ctx context.Context, dir string, list []segmentFile, k *keys, head *checkpoint) error {
	if err := f.lastCheckpoint(dir, k); err != nil {
		return err
	}
	anchor := f.last
	if head != nil && head.epoch == f.epoch && head.size > anchor.size {
		anchor = *head
	}
	if len(list) == 0 {
		if anchor.size > 0 {
			return &Problem{Epoch: f.epoch, Reason: "all its records are missing"}
		}
		return nil
	}
	w, list, err := startAt(dir, f.epoch, list, anchor.size)
	if err != nil {
		return err
	}
	if err := f.follow(ctx, w, list, anchor); err != nil {
		return err
	}
	f.chain, f.segment, f.size = w.chain, &list[len(list)-1], w.end
	if w.torn > 0 {
		f.torn, f.tornFile = w.torn, f.segment.name+tornSuffix
		return setAside(dir, f.segment.name, w.end)
	}
	return nil
}

// follow walks to the end and holds the records against the newest checkpoint.
func (f *found) follow(ctx context.Context, w *walk, list []segmentFile, anchor checkpoint) error {
	own := true
	check := func() error {
		if w.chain.tree.size == anchor.size && anchor.size > 0 && w.chain.tree.root() != anchor.root {
			return &Problem{Epoch: f.epoch, File: w.last.File, Line: w.last.Line, Seq: w.last.Seq,
				Reason: fmt.Sprintf("the records up to here are not those that the checkpoint of %d records signed", anchor.size)}
		}
		return nil
	}
	w.visit = func(e *Entry) error {
		own = own && strings.HasPrefix(e.Action, ownActions)
		w.last = *e
		return check()
	}
	if err := check(); err != nil {
		return err
	}
	if err := w.run(ctx, list); err != nil {
		return err
	}
	switch {
	case w.chain.tree.size < anchor.size:
		return &Problem{Epoch: f.epoch, File: w.last.File, Line: w.last.Line, Seq: w.chain.tree.size + 1,
			Reason: fmt.Sprintf("the log ends after %d records, but a checkpoint signed %d", w.chain.tree.size, anchor.size)}
	case anchor.size == 0 && !own:
		return &Problem{Epoch: f.epoch, File: w.last.File, Seq: 1, Reason: "no checkpoint signed any of the records"}
	}
	return nil
}

// lastCheckpoint finds the newest checkpoint of the epoch, and cuts off one
// that a crash left unfinished.
func (f *found) lastCheckpoint(dir string, k *keys) error {
	name := checkpointFile(f.epoch)
	signed, end, err := lastCheckpoint(dir, f.epoch)
	if err != nil {
		return fmt.Errorf("cannot read the checkpoints: %w", err)
	}
	untrusted := func(reason string) error {
		return &Problem{Epoch: f.epoch, File: name, Reason: "the last checkpoint cannot be trusted: " + reason}
	}
	if signed != nil {
		if f.last, err = parseOwn(signed, k.verifier); err != nil {
			return untrusted(err.Error())
		}
		if f.last.epoch != f.epoch {
			return untrusted(fmt.Sprintf("it is of epoch %d", f.last.epoch))
		}
	}
	f.signed, f.end = signed, end
	rest, err := readFrom(filepath.Join(dir, name), end)
	switch {
	case errors.Is(err, os.ErrNotExist) || err == nil && len(rest) == 0:
		return nil
	case err != nil:
		return fmt.Errorf("cannot read the checkpoints: %w", err)
	case !unfinished(rest):
		return untrusted("it is damaged")
	}
	if err := os.Truncate(filepath.Join(dir, name), end); err != nil {
		return fmt.Errorf("cannot mend the checkpoints: %w", err)
	}
	return nil
}

// readFrom reads what follows an offset, up to the size of a checkpoint.
func readFrom(path string, offset int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.NewSectionReader(f, offset, maxNote))
}

// startAt returns a walk that begins with the last segment in which no more
// than signed records lie before its first: the tree which that record holds
// is then proven by the checkpoint.
func startAt(dir string, epoch int, list []segmentFile, signed int64) (*walk, []segmentFile, error) {
	w := &walk{dir: dir, epoch: epoch}
	for i := len(list) - 1; i > 0; i-- {
		if list[i].first-1 > signed {
			continue
		}
		e, err := header(dir, list[i])
		if errors.Is(err, io.EOF) { // made, and never written
			continue
		}
		t, treeErr := headerTree(&e)
		if err = errors.Join(err, treeErr); err != nil {
			return nil, nil, &Problem{Epoch: epoch, File: list[i].name, Line: 1, Seq: list[i].first, Reason: err.Error()}
		}
		w.chain = chain{tree: t, prev: e.Prev}
		return w, list[i:], nil
	}
	return w, list, nil
}

// setAside moves what follows end in a segment to a file of its own.
func setAside(dir, name string, end int64) error {
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("cannot mend the audit log: %w", err)
	}
	defer f.Close()
	torn, err := os.OpenFile(path+tornSuffix, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("cannot mend the audit log: %w", err)
	}
	_, err = io.Copy(torn, io.NewSectionReader(f, end, math.MaxInt64-end))
	if err = errors.Join(err, torn.Sync(), torn.Close()); err == nil {
		err = errors.Join(f.Truncate(end), f.Sync(), syncDir(dir))
	}
	if err != nil {
		return fmt.Errorf("cannot mend the audit log: %w", err)
	}
	return nil
}
