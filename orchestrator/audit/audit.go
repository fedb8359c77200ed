// Package audit owns the audit log: who did what, in an order and a form that
// nobody can change unseen.
//
// A log is a directory of segments, JSONL files of one record a line. Every
// record holds its number and the hash of the one before; all records of an
// epoch are the leaves of one RFC 6962 tree, whose head is signed at least once
// a second while records come (C2SP tlog-checkpoint, Ed25519). The key lies
// outside the log's directory. A log that does not verify when it is opened
// stays as it is, and a new epoch begins with a record that says so.
//
// It promises that a record for which [Log.Write] returned survives the death
// of this process, that one for which [Log.WriteSync] returned survives that of
// the machine, that nothing is dropped without an error, and that [Verify] finds
// every change to what a checkpoint signed.
//
//	0001-000000000001.jsonl        epoch, number of the first record
//	0001-000000000001.jsonl.torn   an unfinished last line, moved here
//	0001.checkpoints               of epoch 1, in order
//	lock                           one writer per directory
package audit

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// DefaultSegmentSize is the size in bytes from which on a new segment begins.
const DefaultSegmentSize = 16 << 20

// Options configure a log.
type Options struct {
	Dir    string // of the segments
	KeyDir string // of the keys; outside Dir
	Logger *slog.Logger

	SegmentSize int64            // bytes; zero is DefaultSegmentSize
	Now         func() time.Time // nil is time.Now

	open func(path string) (file, error) // nil is openFile; tests make it fail
}

// Log is a log that is open for writing. Its methods may be called from any
// goroutine.
type Log struct {
	opts Options
	keys *keys
	boot string
	lock *os.File

	wake chan struct{} // asks for a round
	stop chan struct{}
	done chan struct{}

	mu       sync.Mutex
	epoch    int
	chain    chain
	segments []*segment // with bytes that are not synced, and the current one, which is the last
	line     []byte     // scratch
	newFile  bool       // a file was made whose directory entry is not synced
	unsynced int        // bytes
	oldest   time.Time  // since when there are some
	timer    *time.Timer
	next     *round
	failed   error     // why nothing can be recorded; nil if it can
	since    time.Time // since when
	refused  int64     // records meanwhile
	force    bool      // the next round signs, however young the last checkpoint is
	closed   bool
	signed   checkpoint
	note     []byte // the same, signed

	// Of the goroutine that makes the rounds.
	signatures file // the checkpoint file
	end        int64
	lastSigned time.Time
}

// Open opens the log for writing and makes it where there is none. The errors
// are of class Conflict if another process writes to it, FailedPrecondition for
// keys that cannot be used, ResourceExhausted or Unavailable if it cannot be
// written.
func Open(ctx context.Context, opts Options) (*Log, error) {
	if opts.SegmentSize == 0 {
		opts.SegmentSize = DefaultSegmentSize
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.open == nil {
		opts.open = openFile
	}
	for _, dir := range []string{opts.Dir, opts.KeyDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, unwritable(opts.Dir, err)
		}
	}
	lock, err := lockDir(opts.Dir)
	if err != nil {
		return nil, err
	}
	l, err := open(ctx, opts)
	if err != nil {
		lock.Close()
		return nil, unwritable(opts.Dir, err)
	}
	l.lock = lock
	return l, nil
}

func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, unwritable(dir, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, unwritable(dir, err)
		}
		return nil, fault.New(errdefs.ErrConflict, "audit_locked", "another process writes the audit log in %s", dir).
			WithHint("end the other one; reading and verifying need no lock")
	}
	return f, nil
}

func open(ctx context.Context, opts Options) (*Log, error) {
	k, err := loadKeys(opts.KeyDir)
	if err != nil {
		return nil, err
	}
	f, err := recoverLog(ctx, opts.Dir, k)
	if err != nil {
		return nil, err
	}
	l := &Log{
		opts: opts, keys: k, boot: bootID(), epoch: f.epoch, chain: f.chain,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
		next: newRound(), signed: f.last, note: f.signed, end: f.end,
	}
	l.timer = time.AfterFunc(time.Hour, l.kick)
	if l.signatures, err = opts.open(filepath.Join(opts.Dir, checkpointFile(f.epoch))); err != nil {
		return nil, err
	}
	if f.segment != nil {
		file, err := opts.open(filepath.Join(opts.Dir, f.segment.name))
		if err != nil {
			_ = l.closeFiles() // the first error counts
			return nil, err
		}
		l.segments = []*segment{{name: f.segment.name, f: file, size: f.size}}
	}
	l.newFile, l.force = true, true
	if err := l.begin(f); err != nil {
		l.timer.Stop()
		_ = l.closeFiles() // the first error counts
		return nil, err
	}
	go l.run()
	return l, nil
}

// begin records how the log was found, and signs all of it.
func (l *Log) begin(f found) error {
	var records []Record
	if f.broken != nil {
		l.opts.Logger.Error("the audit log does not verify; a new epoch begins", "error", f.broken, "epoch", f.epoch)
		records = append(records, Record{Action: ActionBroken, Outcome: "failed", Details: f.broken})
	}
	if f.torn > 0 {
		l.opts.Logger.Warn("moved an unfinished record of the audit log aside", "file", f.tornFile, "bytes", f.torn)
		records = append(records, Record{Action: ActionTorn, Target: f.tornFile, Outcome: "ok", Details: map[string]int64{"bytes": f.torn}})
	}
	records = append(records, Record{Action: ActionOpened, Actor: "host", Outcome: "ok", Details: map[string]int64{
		"records": f.chain.tree.size, "unsigned": f.chain.tree.size - f.last.size,
	}})
	for _, r := range records {
		if err := l.put(l.encode(r)); err != nil {
			return err
		}
	}
	return l.round()
}

// bootID names the boot of the machine; where the system has no such name,
// the run of this process.
func bootID() string {
	if id, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		return strings.ReplaceAll(string(bytes.TrimSpace(id)), "-", "")
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

func (l *Log) encode(r Record) []byte {
	if r.Time.IsZero() {
		r.Time = l.opts.Now()
	}
	return encode(r, l.boot)
}

// Write records r. When it returns, the record is written (write(2)); it is on
// the disk some 50 ms later. Write waits while 4 MiB, or records of more than a
// second, are not on the disk: ctx ends that wait and nothing else. An error
// means that nothing was recorded: ResourceExhausted where there is no room,
// else Unavailable, or the class of ctx's end; InvalidArgument for a record
// without an action or with one that begins with "audit.".
func (l *Log) Write(ctx context.Context, r Record) error {
	_, err := l.write(ctx, r)
	return err
}

// WriteSync records r and returns when it is on the disk. One fsync serves all
// that wait for one. The errors are those of Write; after one that came while
// it waited the record may be in the log all the same.
func (l *Log) WriteSync(ctx context.Context, r Record) error {
	round, err := l.write(ctx, r)
	if err != nil {
		return err
	}
	l.kick()
	return round.wait(ctx)
}

// write returns the round that brings the record to the disk.
func (l *Log) write(ctx context.Context, r Record) (*round, error) {
	if r.Action == "" || strings.HasPrefix(r.Action, ownActions) {
		return nil, fault.New(errdefs.ErrInvalidArgument, "bad_audit_action", "a record cannot have the action %q", r.Action)
	}
	body := l.encode(r)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.ready(ctx); err != nil {
		return nil, err
	}
	if err := l.put(body); err != nil {
		l.refused++
		return nil, err
	}
	return l.next, nil
}

// Healthy returns nil, or why nothing can be recorded now. It tries again
// first, so that a log whose disk has room once more is healthy at once.
func (l *Log) Healthy() error {
	l.mu.Lock()
	failed, closed, r := l.failed, l.closed, l.next
	l.mu.Unlock()
	if closed {
		return errClosed()
	}
	if failed == nil {
		return nil
	}
	l.kick()
	ctx, cancel := context.WithTimeout(context.Background(), probeFor)
	defer cancel()
	return r.wait(ctx)
}

// HMAC hashes arguments under a key of the tenant: "hmac-sha256:" and 64
// hexadecimal digits. Without the key not even small arguments can be guessed.
func (l *Log) HMAC(tenant string, data []byte) string { return l.keys.hmac(tenant, data) }

// Checkpoint returns the newest signed checkpoint.
func (l *Log) Checkpoint() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.note)
}

// Close records the end, brings everything to the disk, signs it and gives up
// the lock. Whatever is written afterwards fails.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	var err error
	if l.failed == nil {
		err = l.put(l.encode(Record{Action: ActionClosed, Actor: "host", Outcome: "ok"}))
	}
	l.closed, l.force = true, true
	r := l.next
	l.mu.Unlock()
	l.kick()
	err = errors.Join(err, r.wait(context.Background()))
	close(l.stop)
	<-l.done
	l.timer.Stop()
	return errors.Join(err, l.closeFiles(), l.lock.Close())
}

func (l *Log) closeFiles() error {
	err := l.signatures.Close()
	for _, s := range l.segments {
		err = errors.Join(err, s.f.Close())
	}
	if err != nil {
		return fmt.Errorf("cannot close the audit log: %w", err)
	}
	return nil
}
