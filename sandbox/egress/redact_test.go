package egress

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// chunks is a body that comes in given pieces.
type chunks [][]byte

func (c *chunks) Read(p []byte) (int, error) {
	if len(*c) == 0 {
		return 0, io.EOF
	}
	n := copy(p, (*c)[0])
	if (*c)[0] = (*c)[0][n:]; len((*c)[0]) == 0 {
		*c = (*c)[1:]
	}
	return n, nil
}

func redactAll(t testing.TB, by *redactor, src io.Reader) string {
	t.Helper()
	got, err := io.ReadAll(&body{src: io.NopCloser(src), by: by})
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

func TestRedactor(t *testing.T) {
	tests := map[string]struct {
		pairs      []pair
		text, want string
	}{
		"nothing to replace": {nil, "text", "text"},
		"once":               {[]pair{{"value", "P"}}, "a value here", "a P here"},
		"at both ends":       {[]pair{{"value", "P"}}, "value value", "P P"},
		"side by side":       {[]pair{{"value", "P"}}, "valuevaluevalu", "PPvalu"},
		"overlapping itself": {[]pair{{"aab", "P"}}, "aaaabaab", "aaPP"},
		"self-similar":       {[]pair{{"abab", "P"}}, "abababab ababab", "PP Pab"},
		"the longer one":     {[]pair{{"abc", "S"}, {"abcdef", "L"}}, "abcdef abcde abc", "L Sde S"},
		"one inside another": {[]pair{{"bc", "S"}, {"abcX", "L"}}, "abc abcX bcX", "aS L SX"},
		"equal values":       {[]pair{{"value", "P"}, {"value", "Q"}}, "value", "P"},
		"an empty value":     {[]pair{{"", "P"}}, "value", "value"},
		"to a longer text":   {[]pair{{"v", "placeholder"}}, "vv", "placeholderplaceholder"},
		"what it became":     {[]pair{{"a", "b"}, {"b", "a"}}, "ab", "ba"},
	}
	for name, tt := range tests {
		by := newRedactor(tt.pairs)
		if got := by.text(tt.text); got != tt.want {
			t.Errorf("%s: whole %q, want %q", name, got, tt.want)
		}
		if got := redactAll(t, by, iotest.OneByteReader(strings.NewReader(tt.text))); got != tt.want {
			t.Errorf("%s: byte by byte %q, want %q", name, got, tt.want)
		}
		for i := range len(tt.text) + 1 { // every position of a split
			if got := redactAll(t, by, &chunks{[]byte(tt.text[:i]), []byte(tt.text[i:])}); got != tt.want {
				t.Errorf("%s: split at %d %q, want %q", name, i, got, tt.want)
			}
		}
	}
}

// TestRedactorLetsGo looks at what comes out after each piece: all that cannot
// be the beginning of a value.
func TestRedactorLetsGo(t *testing.T) {
	pieces := chunks{[]byte("data: one\n\n"), []byte("data: sec"), []byte("ond\n\n"), []byte("secret-"), []byte("value!")}
	b := &body{src: io.NopCloser(&pieces), by: newRedactor([]pair{{"secret-value", "P"}})}
	buf := make([]byte, 100)
	for _, want := range []string{"data: one\n\n", "data: ", "second\n\n", "P!"} {
		n, err := b.Read(buf)
		if got := string(buf[:n]); err != nil || got != want {
			t.Errorf("came %q, %v, want %q", got, err, want)
		}
	}
	if n, err := b.Read(buf); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("at the end came %q, %v", buf[:n], err)
	}
}

func TestRedactorPassesErrors(t *testing.T) {
	broken := errors.New("broken")
	b := &body{src: io.NopCloser(io.MultiReader(strings.NewReader("a val"), iotest.ErrReader(broken))), by: newRedactor([]pair{{"value", "P"}})}
	got, err := io.ReadAll(b)
	if !errors.Is(err, broken) || string(got) != "a " {
		t.Errorf("read %q, %v: what was held back is no more to be known", got, err)
	}
}

// TestRedactorManyMatches would take minutes if each match were looked for
// from the beginning.
func TestRedactorManyMatches(t *testing.T) {
	by := newRedactor([]pair{{"x", "yy"}, {"never", "P"}, {"neither", "P"}})
	if got := redactAll(t, by, io.LimitReader(same('x'), 4<<20)); len(got) != 8<<20 {
		t.Errorf("%d bytes came", len(got))
	}
}

type same byte

func (s same) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(s)
	}
	return len(p), nil
}

func TestRedactResponse(t *testing.T) {
	const value, holder = "the-value", "placeholder-0000"
	by := newRedactor([]pair{{value, holder}})
	long := strings.Repeat("x", redactSize)
	response := func(status int, text string, header ...string) *http.Response {
		res := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(text)), ContentLength: int64(len(text)), Trailer: http.Header{"X-T": {value}}}
		for i := 0; i < len(header); i += 2 {
			res.Header.Add(header[i], header[i+1])
		}
		return res
	}
	tests := map[string]struct {
		res    *http.Response
		body   string
		length int64
		header http.Header
	}{
		"body and headers": {
			response(200, "<the-value>", "X-Echo", "a the-value b", "Content-Length", "11", "Etag", `"1"`, "Digest", "x", "Content-Type", "text/plain"),
			"<placeholder-0000>", 18,
			http.Header{"Content-Length": {"18"}, "X-Echo": {"a placeholder-0000 b"}, "Etag": {`W/"1"`}, "Content-Type": {"text/plain"}},
		},
		"nothing in it": {
			response(200, "another", "Content-Length", "7", "Etag", `"1"`, "Digest", "x"), "another", 7,
			http.Header{"Content-Length": {"7"}, "Etag": {`"1"`}, "Digest": {"x"}},
		},
		"weak already": {response(200, "the-value", "Etag", `W/"1"`), holder, 16, http.Header{"Content-Length": {"16"}, "Etag": {`W/"1"`}}},
		"encoded, it says": {
			response(200, "the-value", "Content-Encoding", "gzip", "Content-Length", "9", "X-Echo", value), holder, 16,
			http.Header{"Content-Encoding": {"gzip"}, "Content-Length": {"16"}, "X-Echo": {holder}},
		},
		"long":          {response(200, long+value, "Etag", `"1"`, "Digest", "x"), long + holder, -1, http.Header{"Etag": {`W/"1"`}}},
		"value in name": {response(200, "x", "The-Value", "1", "X-The-Value-X", "2"), "x", 1, http.Header{}},
		"no body":       {response(304, "", "Etag", `"1"`, "Location", "/?key=the-value"), "", 0, http.Header{"Etag": {`"1"`}, "Location": {"/?key=" + holder}}},
	}
	for name, tt := range tests {
		if err := by.response(tt.res); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(tt.res.Body)
		if err != nil || string(got) != tt.body || tt.res.ContentLength != tt.length {
			t.Errorf("%s: body %q, %v, length %d, want %q, %d", name, got, err, tt.res.ContentLength, tt.body, tt.length)
		}
		if diff := cmp.Diff(tt.header, tt.res.Header); diff != "" {
			t.Errorf("%s: header (-want +got):\n%s", name, diff)
		}
		if tt.res.Trailer.Get("X-T") != holder {
			t.Errorf("%s: trailer %v", name, tt.res.Trailer)
		}
	}
}

// FuzzRedactor compares the stream with the whole, however it is cut.
func FuzzRedactor(f *testing.F) {
	f.Add("some text with a value in it", "value", "alu", uint64(3))
	f.Add("aaaaaaab", "aab", "aaab", uint64(0xffff))
	f.Add("", "x", "", uint64(1))
	f.Add("abcabcabd", "abcabd", "abc", uint64(0x5555555))
	f.Fuzz(func(t *testing.T, text, value, other string, cuts uint64) {
		if value == "" {
			return
		}
		var pieces chunks
		from := 0
		for i := 1; i < len(text); i++ {
			if cuts>>(i%64)&1 == 1 {
				pieces = append(pieces, []byte(text[from:i]))
				from = i
			}
		}
		pieces = append(pieces, []byte(text[from:]))
		again := make(chunks, len(pieces))
		for i := range pieces {
			again[i] = bytes.Clone(pieces[i])
		}
		if got, want := redactAll(t, newRedactor([]pair{{value, "<P>"}}), &pieces), strings.ReplaceAll(text, value, "<P>"); got != want {
			t.Errorf("one value: %q, want %q", got, want)
		}
		// Of two values the replacer takes the first argument at one place.
		longer, shorter := value, other
		if len(other) > len(value) {
			longer, shorter = other, value
		}
		want := strings.NewReplacer(longer, "<L>", shorter, "<S>")
		if shorter == "" {
			want = strings.NewReplacer(longer, "<L>")
		}
		if got, want := redactAll(t, newRedactor([]pair{{shorter, "<S>"}, {longer, "<L>"}}), &again), want.Replace(text); got != want && longer != shorter {
			t.Errorf("two values %q, %q: %q, want %q", longer, shorter, got, want)
		}
	})
}

func TestForms(t *testing.T) {
	for _, tt := range []struct {
		secret Secret
		text   string
		want   string
	}{
		{Secret{Value: "plain-value-0001", Header: "X-Key"}, "<plain-value-0001>", "<P>"},
		{Secret{Value: " Bearer sk-0123456789 ", Header: "Authorization"}, "Bearer sk-0123456789 and sk-0123456789", "P and P"},
		{Secret{Value: "Bearer short", Header: "Authorization"}, "short", "short"},
		{Secret{Value: "two words-in-it", Query: "key"}, "words-in-it two+words-in-it two%20words-in-it", "words-in-it P P"},
		{Secret{Value: "a/b+c==", Query: "key"}, "a%2Fb%2Bc%3D%3D a%2fb%2bc%3d%3d a%2Fb+c==", "P P P"},
	} {
		tt.secret.Placeholder = "P"
		if got := redactorOf([]Secret{tt.secret}).text(tt.text); got != tt.want {
			t.Errorf("%q became %q, want %q", tt.text, got, tt.want)
		}
	}
}
