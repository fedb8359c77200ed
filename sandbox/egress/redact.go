package egress

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// pair is a text and what takes its place.
type pair struct{ old, new string }

// redactor replaces literal occurrences of values by their placeholders. Where
// two values begin at one place, the longer one counts.
type redactor struct {
	pairs []pair   // without empty or equal ones, the longest first
	olds  [][]byte // the values of the pairs
}

func newRedactor(pairs []pair) *redactor {
	r := &redactor{}
	for _, p := range pairs {
		known := slices.ContainsFunc(r.pairs, func(q pair) bool { return q.old == p.old })
		if p.old != "" && !known {
			r.pairs = append(r.pairs, p)
		}
	}
	slices.SortStableFunc(r.pairs, func(a, b pair) int { return cmp.Compare(len(b.old), len(a.old)) })
	for _, p := range r.pairs {
		r.olds = append(r.olds, []byte(p.old))
	}
	return r
}

// redactorOf replaces the values of secrets, and more.
func redactorOf(secrets []Secret, more ...pair) *redactor {
	pairs := more
	for _, s := range secrets {
		for _, form := range s.forms() {
			pairs = append(pairs, pair{form, s.Placeholder})
		}
	}
	return newRedactor(pairs)
}

// minCredentials is the shortest text that is taken for credentials behind a
// scheme, in bytes: shorter ones are found by chance.
const minCredentials = 8

// forms are the texts by which a host sends a value back: it drops the blanks
// around a header and the scheme of "Bearer credentials", and repeats a query
// as it was written or nearly so.
func (s Secret) forms() []string {
	value := strings.TrimSpace(s.Value)
	forms := []string{value}
	if _, credentials, _ := strings.Cut(value, " "); s.Header != "" && len(credentials) >= minCredentials {
		forms = append(forms, strings.TrimSpace(credentials))
	}
	query := url.QueryEscape(value)
	for _, escaped := range []string{query, strings.ReplaceAll(query, "+", "%20"), url.PathEscape(value)} {
		forms = append(forms, escaped, lowerEscapes(escaped))
	}
	return forms
}

// lowerEscapes writes %2F as %2f.
func lowerEscapes(escaped string) string {
	out := []byte(escaped)
	for i, c := range out {
		if c == '%' {
			copy(out[i:], strings.ToLower(escaped[i:i+3]))
		}
	}
	return string(out)
}

// text replaces in a whole text.
func (r *redactor) text(s string) string {
	if !slices.ContainsFunc(r.pairs, func(p pair) bool { return strings.Contains(s, p.old) }) {
		return s
	}
	out, _ := r.replace(nil, []byte(s), true)
	return string(out)
}

// header replaces in the values of headers, in place, and drops those with a
// value in their names, which are of no case.
func (r *redactor) header(h http.Header) {
	for name, values := range h {
		if slices.ContainsFunc(r.pairs, func(p pair) bool { return containsFold(name, p.old) }) {
			delete(h, name)
			continue
		}
		for i, value := range values {
			values[i] = r.text(value)
		}
	}
}

// replace appends data to out with the values replaced, up to where a value
// may begin of which the rest is still to come, and returns what is left.
// At the end of the text nothing is to come.
func (r *redactor) replace(out, data []byte, end bool) (appended, rest []byte) {
	found := newFinder(r, data)
	pos, hold := 0, len(data)
	if !end {
		hold = r.partial(data, 0)
	}
	for {
		at, p := found.next(pos)
		if p == nil || at >= hold {
			return append(out, data[pos:hold]...), data[hold:]
		}
		out = append(out, data[pos:at]...)
		out = append(out, p.new...)
		pos = at + len(p.old)
		if pos > hold { // what was held back was part of this value
			hold = r.partial(data, pos)
		}
	}
}

// partial returns where the first value begins, at pos or later, that data may
// end in the middle of, or the end of data.
func (r *redactor) partial(data []byte, pos int) int {
	first := len(data)
	for _, old := range r.olds {
		for at := max(pos, len(data)-len(old)+1); at < first; at++ {
			n := bytes.IndexByte(data[at:first], old[0])
			if n < 0 {
				break
			}
			if at += n; bytes.HasPrefix(old, data[at:]) {
				first = at
			}
		}
	}
	return first
}

// finder finds values in a text, and looks at no part of it twice for one.
type finder struct {
	*redactor
	data  []byte
	heads []int // where each value is next, or len(data)
}

func newFinder(r *redactor, data []byte) *finder {
	f := &finder{redactor: r, data: data, heads: make([]int, len(r.pairs))}
	for i := range f.heads {
		f.heads[i] = -1
	}
	return f
}

// next returns the first value that begins at pos or later, or nil.
func (f *finder) next(pos int) (at int, found *pair) {
	at = len(f.data)
	for i := range f.pairs {
		if f.heads[i] < pos {
			f.heads[i] = len(f.data)
			if n := bytes.Index(f.data[pos:], f.olds[i]); n >= 0 {
				f.heads[i] = pos + n
			}
		}
		if f.heads[i] < at {
			at, found = f.heads[i], &f.pairs[i]
		}
	}
	return at, found
}

// redactSize is how much of a body is looked at at a time, in bytes.
const redactSize = 32 << 10

// body is a body whose values are replaced as it is read. It holds back no
// more than what may be the beginning of a value.
type body struct {
	src  io.ReadCloser
	by   *redactor
	done func() // at the end of src, unless nil

	in   []byte // what was read and held back
	out  []byte // what is ready, from next on
	next int
	err  error // of src
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for b.next == len(b.out) {
		if b.err != nil {
			return 0, b.err
		}
		b.fill()
	}
	n := copy(p, b.out[b.next:])
	b.next += n
	return n, nil
}

// fill reads once.
func (b *body) fill() {
	held := len(b.in)
	b.in = slices.Grow(b.in, redactSize)
	n, err := b.src.Read(b.in[held : held+redactSize])
	b.err = err
	end := errors.Is(err, io.EOF)
	if end && b.done != nil {
		b.done()
	}
	var rest []byte
	b.out, rest = b.by.replace(b.out[:0], b.in[:held+n], end)
	b.in = append(b.in[:0], rest...)
	b.next = 0
}

// Close implements io.Closer.
func (b *body) Close() error { return b.src.Close() }

// response replaces the values in an answer's headers, its body and its
// trailers. It trusts no header that says how the body is encoded: a literal
// value in it is one.
func (r *redactor) response(res *http.Response) error {
	r.header(res.Header)
	r.header(res.Trailer)
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols:
	case !hasBody(res):
		if res.Body != nil && res.Body != http.NoBody {
			res.Body = &ending{res.Body, func() { r.header(res.Trailer) }}
		}
	case res.ContentLength > 0 && res.ContentLength <= redactSize:
		return r.short(res)
	default:
		res.Body = &body{src: res.Body, by: r, done: func() { r.header(res.Trailer) }}
		altered(res, -1)
	}
	return nil
}

// ending is a body that says when it was read.
type ending struct {
	io.ReadCloser
	done func()
}

// Read implements io.Reader.
func (b *ending) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.done()
	}
	return n, err
}

// short replaces in a body that is read as a whole: nobody sees from where it
// is cut what may be the beginning of a value.
func (r *redactor) short(res *http.Response) error {
	defer res.Body.Close()
	data := make([]byte, res.ContentLength)
	if _, err := io.ReadFull(res.Body, data); err != nil {
		return fmt.Errorf("cannot read an answer: %w", err)
	}
	if n, err := res.Body.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
		return fmt.Errorf("cannot read the end of an answer: %w", err)
	}
	r.header(res.Trailer) // which came with the end
	if out, _ := r.replace(nil, data, true); !bytes.Equal(out, data) {
		data = out
		altered(res, int64(len(out)))
	}
	res.Body = io.NopCloser(bytes.NewReader(data))
	return nil
}

// altered drops what is said of a body and may not be true any more, and says
// its length, unless it is -1.
func altered(res *http.Response, length int64) {
	res.ContentLength = length
	for _, name := range []string{"Content-Length", "Content-Digest", "Content-Md5", "Digest", "Repr-Digest"} {
		res.Header.Del(name)
	}
	if length >= 0 {
		res.Header.Set("Content-Length", strconv.FormatInt(length, 10))
	}
	if tag := res.Header.Get("Etag"); strings.HasPrefix(tag, `"`) {
		res.Header.Set("Etag", "W/"+tag)
	}
}

// hasBody says that an answer may have a body.
func hasBody(res *http.Response) bool {
	return res.Body != nil && res.Body != http.NoBody && res.ContentLength != 0 && (res.Request == nil || res.Request.Method != http.MethodHead)
}

// containsFold says that text holds part, whatever their cases.
func containsFold(text, part string) bool {
	return len(text) >= len(part) && strings.Contains(strings.ToLower(text), strings.ToLower(part))
}
