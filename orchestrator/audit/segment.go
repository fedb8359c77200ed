package audit

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	segmentSuffix    = ".jsonl"
	checkpointSuffix = ".checkpoints"
	tornSuffix       = ".torn"
)

// maxEpoch bounds how often a log can be found broken.
const maxEpoch = 9999

// segmentFile is a segment by its name: its epoch and the sequence number of
// its first record.
type segmentFile struct {
	epoch int
	first int64
	name  string
}

func segmentOf(epoch int, first int64) segmentFile {
	return segmentFile{epoch, first, fmt.Sprintf("%04d-%012d%s", epoch, first, segmentSuffix)}
}

func checkpointFile(epoch int) string { return fmt.Sprintf("%04d%s", epoch, checkpointSuffix) }

// parseSegment reads a name that segmentOf made.
func parseSegment(name string) (segmentFile, bool) {
	base, ok := strings.CutSuffix(name, segmentSuffix)
	epoch, first, found := strings.Cut(base, "-")
	e, errEpoch := strconv.Atoi(epoch)
	n, errFirst := strconv.ParseInt(first, 10, 64)
	s := segmentOf(e, n)
	return s, ok && found && errEpoch == nil && errFirst == nil && e > 0 && e <= maxEpoch && n > 0 && s.name == name
}

// segments lists the segments of a log in order; none if there is no log.
func segments(dir string) ([]segmentFile, error) {
	entries, err := list(dir)
	if err != nil {
		return nil, err
	}
	var all []segmentFile
	for _, e := range entries {
		if s, ok := parseSegment(e.Name()); ok {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b segmentFile) int {
		return cmp.Or(cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.first, b.first))
	})
	return all, nil
}

// newestEpoch returns the highest epoch that has a checkpoint file; 0 if none.
func newestEpoch(dir string) (int, error) {
	entries, err := list(dir)
	if err != nil {
		return 0, err
	}
	newest := 0
	for _, e := range entries {
		n, err := strconv.Atoi(strings.TrimSuffix(e.Name(), checkpointSuffix))
		if err == nil && n > newest && n <= maxEpoch && e.Name() == checkpointFile(n) {
			newest = n
		}
	}
	return newest, nil
}

func list(dir string) ([]os.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot list the audit log: %w", err)
	}
	return entries, nil
}

// ofEpoch returns those of one epoch.
func ofEpoch(all []segmentFile, epoch int) []segmentFile {
	var of []segmentFile
	for _, s := range all {
		if s.epoch == epoch {
			of = append(of, s)
		}
	}
	return of
}

var (
	errTorn    = errors.New("the line has no end")
	errTooLong = fmt.Errorf("the line has more than %d bytes", maxLine)
)

// lineReader reads lines within bounded memory and knows where it is.
type lineReader struct {
	r    *bufio.Reader
	line int   // of the last one, from 1
	end  int64 // offset after the last whole one
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, maxLine+1)}
}

// next returns a line without its end, valid until the next call: io.EOF after
// the last, errTorn with what there is of an unfinished one, errTooLong.
func (l *lineReader) next() ([]byte, error) {
	text, err := l.r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		l.line++
		l.end += int64(len(text))
		return nil, errTooLong
	case errors.Is(err, io.EOF) && len(text) > 0:
		l.line++
		return text, errTorn
	case err != nil:
		return nil, err
	}
	l.line++
	l.end += int64(len(text))
	return text[:len(text)-1], nil
}

// skip reads on to the end of a line that was too long.
func (l *lineReader) skip() error {
	for {
		text, err := l.r.ReadSlice('\n')
		l.end += int64(len(text))
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

// header returns the first record of a segment, io.EOF if it has none.
func header(dir string, s segmentFile) (Entry, error) {
	f, err := os.Open(filepath.Join(dir, s.name))
	if err != nil {
		return Entry{}, err
	}
	defer f.Close()
	line, err := newLineReader(f).next()
	if errors.Is(err, errTorn) {
		return Entry{}, io.EOF
	}
	if err != nil {
		return Entry{}, err
	}
	return ParseEntry(line)
}
