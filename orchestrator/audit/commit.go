package audit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	groupFor  = 50 * time.Millisecond // how long a written record may wait for company
	groupSize = 256 << 10             // bytes that are synced without waiting
	maxBehind = 4 << 20               // bytes that may be unsynced before writers wait
	maxAge    = time.Second           // how old they may be
	signEvery = time.Second           // how often a checkpoint is signed at most
	retryFor  = time.Second           // how often a failed log tries again by itself
	probeFor  = 2 * time.Second       // how long Healthy waits for a try
)

// file is what the log needs of an os.File.
type file interface {
	WriteAt(p []byte, offset int64) (int, error)
	Truncate(size int64) error
	Sync() error
	Close() error
}

func openFile(path string) (file, error) { return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) }

// segment is a segment that is being written, or was and is not synced yet.
type segment struct {
	name    string
	f       file
	size    int64  // of whole records
	tail    []byte // the last of them, which are not synced
	torn    bool   // there may be the start of a record after size
	suspect bool   // a sync failed: the system may have forgotten the tail
}

// round is one try to bring everything written to the disk.
type round struct {
	done chan struct{}
	err  error
}

func newRound() *round { return &round{done: make(chan struct{})} }

func (r *round) wait(ctx context.Context) error {
	select {
	case <-r.done:
		return r.err
	default:
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return waited(ctx)
	}
}

// kick asks for a round.
func (l *Log) kick() {
	select {
	case l.wake <- struct{}{}:
	default: // one is asked for already
	}
}

// run makes the rounds.
func (l *Log) run() {
	defer close(l.done)
	for {
		select {
		case <-l.stop:
			return
		case <-l.wake:
			l.mu.Lock()
			failed := l.failed != nil
			l.mu.Unlock()
			if err := l.round(); err != nil && !failed {
				l.opts.Logger.Error("cannot write the audit log", "error", err)
			}
		}
	}
}

// ready waits until a record may be written, with l.mu held on both ends: for
// the disk to keep up, or for a failed log to work again.
func (l *Log) ready(ctx context.Context) error {
	for {
		behind := l.unsynced > maxBehind || l.unsynced > 0 && l.opts.Now().Sub(l.oldest) > maxAge
		switch {
		case l.closed:
			return errClosed()
		case l.failed == nil && !behind:
			return nil
		}
		r := l.next
		l.mu.Unlock()
		l.kick()
		err := r.wait(ctx)
		l.mu.Lock()
		if err != nil {
			l.refused++
			return err
		}
	}
}

// put appends a record, with l.mu held. It writes all of it or nothing.
func (l *Log) put(body []byte) error {
	err := l.rotate()
	if err == nil && l.current().size == 0 {
		err = l.append(l.encode(Record{Action: ActionSegment, Actor: "host", Outcome: "ok", Details: l.chain.tree.state()}))
	}
	if err == nil {
		err = l.append(body)
	}
	if err != nil {
		return l.fail(err)
	}
	return nil
}

func (l *Log) current() *segment { return l.segments[len(l.segments)-1] }

// rotate begins a new segment where the current one is full.
func (l *Log) rotate() error {
	if len(l.segments) > 0 && l.current().size < l.opts.SegmentSize {
		return nil
	}
	s := segmentOf(l.epoch, l.chain.tree.size+1)
	f, err := l.opts.open(filepath.Join(l.opts.Dir, s.name))
	if err != nil {
		return err
	}
	rotated := len(l.segments) > 0
	l.segments = append(l.segments, &segment{name: s.name, f: f})
	l.newFile, l.force = true, true
	if rotated {
		l.kick()
	}
	return nil
}

// append writes one line to the current segment.
func (l *Log) append(body []byte) error {
	s := l.current()
	if s.torn {
		if err := s.f.Truncate(s.size); err != nil {
			return err
		}
		s.torn = false
	}
	l.line = appendLine(l.line[:0], &l.chain, body)
	if _, err := s.f.WriteAt(l.line, s.size); err != nil {
		s.torn = s.f.Truncate(s.size) != nil
		return err
	}
	l.chain.add(l.line[:len(l.line)-1])
	s.size += int64(len(l.line))
	s.tail = append(s.tail, l.line...)
	if l.unsynced == 0 {
		l.oldest = l.opts.Now()
		l.timer.Reset(groupFor)
	}
	if l.unsynced += len(l.line); l.unsynced >= groupSize {
		l.kick()
	}
	return nil
}

// fail notes, with l.mu held, that the log cannot record.
func (l *Log) fail(err error) error {
	err = unwritable(l.opts.Dir, err)
	if l.failed == nil {
		l.since = l.opts.Now()
		l.timer.Reset(retryFor)
	}
	l.failed = err
	return err
}

// round brings what is written to the disk, signs it if it is time, and tells
// those that wait. A failed log that gets through says so in a record.
func (l *Log) round() error {
	l.mu.Lock()
	r := l.next
	l.next = newRound()
	failed := l.failed != nil
	l.mu.Unlock()

	err := l.commit()
	if err == nil && failed {
		if err = l.resume(); err == nil {
			err = l.commit()
		}
	}
	l.mu.Lock()
	switch {
	case err != nil:
		err = l.fail(err)
	case failed:
		l.failed, l.refused = nil, 0
	}
	l.plan()
	l.mu.Unlock()
	r.err = err
	close(r.done)
	return err
}

// resume records that the log works again.
func (l *Log) resume() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	return l.put(l.encode(Record{Action: ActionResumed, Actor: "host", Outcome: "ok", Details: map[string]any{
		"since": l.since.UTC(), "reason": l.failed.Error(), "refused": l.refused,
	}}))
}

// plan sets, with l.mu held, the timer for the next round.
func (l *Log) plan() {
	switch {
	case l.failed != nil:
		l.timer.Reset(retryFor)
	case l.unsynced > 0:
		l.timer.Reset(groupFor)
	case l.signed.size < l.chain.tree.size:
		l.timer.Reset(max(0, signEvery-l.opts.Now().Sub(l.lastSigned)))
	}
}

// batch is what one commit brings to the disk.
type batch struct {
	parts   []part
	newFile bool
	force   bool
	began   time.Time
	tree    tree
}

type part struct {
	s *segment
	n int // bytes of its tail
}

// commit syncs what was written when it began, and signs it.
func (l *Log) commit() error {
	b, err := l.collect()
	if err == nil {
		err = l.bring(b)
	}
	if err != nil {
		l.mu.Lock()
		l.newFile, l.force = l.newFile || b.newFile, l.force || b.force
		l.mu.Unlock()
	}
	return err
}

func (l *Log) bring(b batch) error {
	for _, p := range b.parts {
		if p.n == 0 {
			continue
		}
		if err := p.s.f.Sync(); err != nil {
			l.mu.Lock()
			p.s.suspect = true
			l.mu.Unlock()
			return err
		}
	}
	if b.newFile {
		if err := syncDir(l.opts.Dir); err != nil {
			return err
		}
	}
	l.synced(b)
	return l.sign(b)
}

// collect lists what is to be synced. What an earlier failure left undone it
// does first: an unfinished record is cut off, and a tail which a failed sync
// may have lost is written again.
func (l *Log) collect() (batch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := batch{newFile: l.newFile, force: l.force, began: l.opts.Now(), tree: l.chain.tree.clone()}
	l.newFile, l.force = false, false
	for _, s := range l.segments {
		if s.torn {
			if err := s.f.Truncate(s.size); err != nil {
				return b, err
			}
			s.torn = false
		}
		if s.suspect {
			if _, err := s.f.WriteAt(s.tail, s.size-int64(len(s.tail))); err != nil {
				return b, err
			}
			s.suspect = false
		}
		b.parts = append(b.parts, part{s, len(s.tail)})
	}
	return b, nil
}

// synced forgets what is on the disk.
func (l *Log) synced(b batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range b.parts {
		p.s.tail = append(p.s.tail[:0], p.s.tail[p.n:]...)
		if len(p.s.tail) == 0 && cap(p.s.tail) > 2*groupSize {
			p.s.tail = nil // a burst is over
		}
		l.unsynced -= p.n
	}
	l.oldest = b.began
	current := l.current()
	l.segments = slices.DeleteFunc(l.segments, func(s *segment) bool {
		if s == current || len(s.tail) > 0 {
			return false
		}
		if err := s.f.Close(); err != nil { // all of it is on the disk
			l.opts.Logger.Warn("cannot close a segment of the audit log", "file", s.name, "error", err)
		}
		return true
	})
}

// sign appends a checkpoint if it is time for one.
func (l *Log) sign(b batch) error {
	if b.tree.size == l.signed.size || !b.force && b.began.Sub(l.lastSigned) < signEvery {
		return nil
	}
	c := checkpoint{l.epoch, b.tree.size, b.tree.root()}
	signed, err := c.sign(l.keys.signer)
	if err != nil {
		return err
	}
	if _, err := l.signatures.WriteAt(signed, l.end); err != nil {
		return errors.Join(err, l.signatures.Truncate(l.end))
	}
	if b.force {
		if err := l.signatures.Sync(); err != nil {
			return err
		}
	}
	if err := l.keys.setHead(signed); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end += int64(len(signed))
	l.signed, l.note, l.lastSigned = c, signed, b.began
	return nil
}
