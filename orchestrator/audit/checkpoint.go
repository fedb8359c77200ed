package audit

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// checkpoint is a signed tree head: the first records of an epoch, as many as
// Size, have the tree Root. As text it is a C2SP tlog-checkpoint, whose origin
// is the key's name, a slash, and the epoch.
type checkpoint struct {
	epoch int
	size  int64
	root  tlog.Hash
}

// noteLines is how many lines a checkpoint of ours has: three of text, an
// empty one, one signature.
const noteLines = 5

// maxNote bounds a checkpoint, cosignatures of witnesses included.
const maxNote = 64 << 10

func (c checkpoint) text(name string) string {
	return fmt.Sprintf("%s/%d\n%d\n%s\n", name, c.epoch, c.size, c.root)
}

func (c checkpoint) sign(s note.Signer) ([]byte, error) {
	return note.Sign(&note.Note{Text: c.text(s.Name())}, s)
}

// parseCheckpoint verifies a signed checkpoint. It may hold further signatures
// and further lines of text.
func parseCheckpoint(signed []byte, v note.Verifier) (checkpoint, error) {
	if len(signed) > maxNote {
		return checkpoint{}, fmt.Errorf("it has %d bytes, at most %d are allowed", len(signed), maxNote)
	}
	n, err := note.Open(signed, note.VerifierList(v))
	if err != nil {
		return checkpoint{}, err
	}
	lines := strings.SplitN(n.Text, "\n", 4)
	if len(lines) < 4 {
		return checkpoint{}, errors.New("it has fewer than three lines")
	}
	origin, epoch, ok := strings.Cut(lines[0], v.Name()+"/")
	c := checkpoint{}
	c.epoch, err = strconv.Atoi(epoch)
	if !ok || origin != "" || err != nil || c.epoch < 1 {
		return checkpoint{}, fmt.Errorf("it is of another log, %q", lines[0])
	}
	if c.size, err = strconv.ParseInt(lines[1], 10, 64); err != nil || c.size < 1 {
		return checkpoint{}, fmt.Errorf("%q is no number of records", lines[1])
	}
	if c.root, err = tlog.ParseHash(lines[2]); err != nil {
		return checkpoint{}, fmt.Errorf("%q is no hash", lines[2])
	}
	return c, nil
}

// parseOwn verifies a checkpoint as we write them: byte for byte what signing
// it gave, so that no byte of the file can change unseen.
func parseOwn(signed []byte, v note.Verifier) (checkpoint, error) {
	c, err := parseCheckpoint(signed, v)
	if err != nil {
		return checkpoint{}, err
	}
	rest, ok := bytes.CutPrefix(signed, []byte(c.text(v.Name())+"\n— "+v.Name()+" "))
	signature := strings.TrimSuffix(string(rest), "\n")
	if _, err := base64.StdEncoding.Strict().DecodeString(signature); !ok || err != nil {
		return checkpoint{}, errors.New("it is not in the form in which it was signed")
	}
	return c, nil
}

// checkpoints reads the checkpoints of one epoch, in order.
type checkpoints struct {
	file     string
	lines    *lineReader
	verifier note.Verifier
	before   checkpoint // the last that was read
	torn     int64      // bytes of an unfinished last one
}

func newCheckpoints(file string, r io.Reader, v note.Verifier) *checkpoints {
	return &checkpoints{file: file, lines: newLineReader(r), verifier: v}
}

// next returns the next checkpoint, io.EOF after the last. An unfinished last
// one, as a crash leaves it, ends the list; any other fault is a Problem.
func (c *checkpoints) next(epoch int) (checkpoint, error) {
	var text []byte
	first := c.lines.line + 1
	for range noteLines {
		line, err := c.lines.next()
		switch {
		case errors.Is(err, io.EOF) && len(text) == 0:
			return checkpoint{}, io.EOF
		case errors.Is(err, io.EOF), errors.Is(err, errTorn):
			text = append(text, line...)
			if c.torn = int64(len(text)); unfinished(text) {
				return checkpoint{}, io.EOF
			}
			return checkpoint{}, c.problem(epoch, first, "it is cut off")
		case errors.Is(err, errTooLong):
			return checkpoint{}, c.problem(epoch, first, err.Error())
		case err != nil:
			return checkpoint{}, err
		}
		text = append(append(text, line...), '\n')
	}
	got, err := parseOwn(text, c.verifier)
	switch {
	case err != nil:
		return checkpoint{}, c.problem(epoch, first, err.Error())
	case got.epoch != epoch:
		return checkpoint{}, c.problem(epoch, first, fmt.Sprintf("it is of epoch %d", got.epoch))
	case got.size <= c.before.size:
		return checkpoint{}, c.problem(epoch, first, fmt.Sprintf("it signs %d records after one that signs %d", got.size, c.before.size))
	}
	c.before = got
	return got, nil
}

func (c *checkpoints) problem(epoch, line int, reason string) error {
	return &Problem{Epoch: epoch, File: c.file, Line: line, Reason: "the checkpoint cannot be trusted: " + reason}
}

// unfinished says whether text is the start of a checkpoint and not a whole one
// that was damaged: it has no finished signature, and is shorter than its first
// two lines say.
func unfinished(text []byte) bool {
	if bytes.HasSuffix(text, []byte("\n")) && bytes.Contains(text, []byte("\n— ")) {
		return false
	}
	lines := strings.SplitN(string(text), "\n", 3)
	if len(lines) < 3 {
		return true
	}
	name := strings.TrimRight(strings.TrimRight(lines[0], "0123456789"), "/")
	const hash, signature = 44, 92 // base64 of 32 and of 4+64 bytes
	whole := len(lines[0]) + 1 + len(lines[1]) + 1 + hash + 2 + len("— ") + len(name) + 1 + signature + 1
	return len(text) < whole
}

// lastCheckpoint returns the newest whole checkpoint of an epoch, signed as it
// stands in the file, and the offset after it; nil if there is none. It reads
// the file's end only.
func lastCheckpoint(dir string, epoch int) (signed []byte, end int64, err error) {
	f, err := os.Open(filepath.Join(dir, checkpointFile(epoch)))
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	const look = 8 << 10
	from := max(0, st.Size()-look)
	tail := make([]byte, st.Size()-from)
	if _, err := io.ReadFull(io.NewSectionReader(f, from, int64(len(tail))), tail); err != nil {
		return nil, 0, err
	}
	// A checkpoint ends with the line end of its signature.
	stop := bytes.LastIndex(tail, []byte("\n— "))
	for stop >= 0 {
		if n := bytes.IndexByte(tail[stop+1:], '\n'); n >= 0 {
			stop += n + 2
			break
		}
		stop = bytes.LastIndex(tail[:stop], []byte("\n— "))
	}
	if stop < 0 {
		return nil, 0, nil
	}
	start := stop
	for range noteLines {
		start = bytes.LastIndexByte(tail[:max(start-1, 0)], '\n') + 1
	}
	return tail[start:stop], from + int64(stop), nil
}
