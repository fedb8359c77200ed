// Package logfile keeps what a container prints in files of bounded size and
// reads it back, for engines that have no log of their own.
//
// A directory holds the output of one container in files that are numbered
// upwards, "1.log" and so on; the oldest is removed whole when a new one is
// begun. A file holds one record in JSON per line: a [sandbox.LogLine], or a
// piece of one that is long. One [Writer] may write to a directory at a time;
// any number of readers may [Read] it meanwhile, in other processes too.
//
// It promises that
//   - what a container printed and ended by a new line is in a file as soon as
//     it was read, and readers see it within a fifth of a second;
//   - a writer that is killed in the middle of a record leaves nothing garbled;
//   - a container does not wait for room on a disk: what cannot be written is
//     lost, and a line in the log says how many lines were;
//   - a container that floods its output costs a bounded part of a CPU and of
//     the disk; see [Rate].
package logfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ocmt/ocmt/sandbox"
)

// The bounds of what one stream of a container costs.
const (
	// Rate is how many bytes of a stream are kept per second, as they are in
	// the files, once [Burst] bytes were. What is beyond is left out, a second
	// at a time, but for the last lines before each gap ends. A write of 256
	// KiB/s comes to 22 GB a day, if the disk ever sees it: at that rate, files
	// of the usual size are removed before the kernel writes them out.
	Rate = 256 << 10
	// Burst is more than the usual files hold.
	Burst = 8 << 20
	// ReadRate is how many bytes of a stream are read per second, kept or not,
	// once [Burst] bytes were: a flood beyond waits in its pipe, and the
	// flooding container with it. Reading that much takes some 2 % of a CPU.
	ReadRate = 8 << 20
)

const (
	// maxPiece bounds the text of a record, bytes: what is held of a line that
	// no new line has ended yet.
	maxPiece = 16 << 10
	// overhead is ample for what a record has besides its text, and for one
	// that says what is missing.
	overhead = 256
	// widest is how much longer a byte can get in JSON: � for a bad one.
	widest = 6
	// maxRecord bounds a record with its new line.
	maxRecord = maxPiece*widest + overhead

	suffix = ".log"
)

// ending is the record of a [Writer] that was closed: no more output follows.
const ending = "{}\n"

// record is a line, or a piece of one: Partial says that the line goes on.
type record struct {
	sandbox.LogLine
	Partial bool `json:"partial,omitempty"` // the last member, see finishes
}

// encode appends the record and a new line to out.
func (r *record) encode(out *bytes.Buffer) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(r)
}

// decode reads a record, and says whether it is one of a container's output.
func decode(text []byte) (record, bool) {
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return record{}, false
	}
	return r, r.Stream == sandbox.Stdout || r.Stream == sandbox.Stderr
}

// finishes says without decoding it whether a record is the end of a line. The
// quotes of its text are escaped, so that the text cannot end like this.
func finishes(text []byte) bool {
	text = bytes.TrimSuffix(text, []byte("\n"))
	return len(text) > len("{}") && !bytes.HasSuffix(text, []byte(`","partial":true}`))
}

// numbers returns the numbers of the files in a directory, upwards: none when
// it does not exist.
func numbers(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("cannot list the log files: %w", err)
	}
	var found []uint64
	for _, entry := range entries {
		name, isLog := strings.CutSuffix(entry.Name(), suffix)
		if n, err := strconv.ParseUint(name, 10, 64); isLog && err == nil && strconv.FormatUint(n, 10) == name {
			found = append(found, n)
		}
	}
	slices.Sort(found)
	return found, nil
}

func path(dir string, number uint64) string {
	return filepath.Join(dir, strconv.FormatUint(number, 10)+suffix)
}
