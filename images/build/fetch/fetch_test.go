package fetch

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

const content = "what was published"

func sumOf(s string) Sum {
	sum := sha256.Sum256([]byte(s))
	return SHA256(hex.EncodeToString(sum[:]))
}

// place is a server whose paths answer as their names say.
type place struct {
	*httptest.Server
	requests atomic.Int32
}

func newPlace(t *testing.T) *place {
	p := &place{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := p.requests.Add(1)
		switch r.URL.Path {
		case "/good":
			w.Write([]byte(content))
		case "/other":
			w.Write([]byte("something else!!!!"))
		case "/long":
			w.Write([]byte(content + content))
		case "/cut":
			w.Header().Set("Content-Length", "1000")
			w.Write([]byte(content))
		case "/down":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/third":
			if n < 3 {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			w.Write([]byte(content))
		case "/hangs":
			<-r.Context().Done()
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func TestGet(t *testing.T) {
	tests := map[string]struct {
		paths    []string
		size     int64
		requests int32
		is       func(error) bool
	}{
		"first":              {[]string{"/good"}, int64(len(content)), 1, nil},
		"size not known":     {[]string{"/good"}, 0, 1, nil},
		"second place":       {[]string{"/missing", "/other", "/down", "/good"}, 0, 4, nil},
		"third try":          {[]string{"/third"}, 0, 3, nil},
		"missing everywhere": {[]string{"/missing", "/gone"}, 0, 2, errdefs.IsNotFound},
		"missing and down":   {[]string{"/missing", "/down"}, 0, 2 * rounds, errdefs.IsUnavailable},
		"down":               {[]string{"/down"}, 0, rounds, errdefs.IsUnavailable},
		"cut off":            {[]string{"/cut"}, 0, rounds, errdefs.IsUnavailable},
		"other content":      {[]string{"/missing", "/other"}, 0, 2 * rounds, errdefs.IsDataLoss},
		"other size":         {[]string{"/good"}, 5, rounds, errdefs.IsDataLoss},
		"over the limit":     {[]string{"/long"}, 0, rounds, errdefs.IsDataLoss},
		"not a URL":          {[]string{":"}, 0, 0, errdefs.IsUnavailable},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			f := &Fetcher{Dir: t.TempDir(), Pause: time.Millisecond, Max: int64(len(content))}
			file := File{Name: "x", Size: test.size, Sum: sumOf(content)}
			for _, path := range test.paths {
				file.URLs = append(file.URLs, p.URL+path)
			}
			if name == "not a URL" {
				file.URLs = test.paths
			}
			b, err := f.Get(t.Context(), file)
			if test.is == nil && (err != nil || string(b) != content) {
				t.Errorf("Get() = %q, %v", b, err)
			}
			if test.is != nil && (err == nil || !test.is(err) || b != nil) {
				t.Errorf("Get() = %q, error %v of another class than wanted", b, err)
			}
			if n := p.requests.Load(); n != test.requests {
				t.Errorf("%d requests, want %d", n, test.requests)
			}
			if entries, _ := os.ReadDir(f.Dir); (len(entries) == 1) != (test.is == nil) {
				t.Errorf("the cache holds %v", entries)
			}
		})
	}
}

func TestGetFromCache(t *testing.T) {
	p := newPlace(t)
	f := &Fetcher{Dir: filepath.Join(t.TempDir(), "a", "b"), Pause: time.Millisecond}
	file := File{Name: "x", URLs: []string{p.URL + "/good"}, Sum: sumOf(content)}
	for range 3 {
		if b, err := f.Get(t.Context(), file); err != nil || string(b) != content {
			t.Fatalf("Get() = %q, %v", b, err)
		}
	}
	if n := p.requests.Load(); n != 1 {
		t.Errorf("%d requests for a cached file, want 1", n)
	}
	cached := filepath.Join(f.Dir, "sha256-"+file.Sum.Hex)
	if err := os.WriteFile(cached, []byte("What was published"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := f.Get(t.Context(), file); err != nil || string(b) != content {
		t.Errorf("Get() with a damaged cache = %q, %v", b, err)
	}
	if n := p.requests.Load(); n != 2 {
		t.Errorf("%d requests after damage, want 2", n)
	}
	if b, err := os.ReadFile(cached); err != nil || string(b) != content {
		t.Errorf("the cache was not mended: %q, %v", b, err)
	}
}

func TestGetRefusesBadSums(t *testing.T) {
	for _, sum := range []Sum{{}, {"sha256", ""}, {"md5", strings.Repeat("a", 32)}, {"sha256", "../../x"}, {"sha256", strings.Repeat("A", 64)}} {
		f := &Fetcher{Dir: t.TempDir()}
		if _, err := f.Get(t.Context(), File{Name: "x", Sum: sum}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("Get() with %+v = %v, want InvalidArgument", sum, err)
		}
		if err := sum.Check([]byte(content)); !errdefs.IsDataLoss(err) {
			t.Errorf("%+v.Check() = %v, want DataLoss", sum, err)
		}
	}
}

func TestGetEndsWithItsContext(t *testing.T) {
	p := newPlace(t)
	f := &Fetcher{Pause: time.Hour}
	for _, path := range []string{"/hangs", "/down"} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := f.Get(ctx, File{Name: "x", URLs: []string{p.URL + path}, Sum: sumOf(content)})
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Get(%s) = %v, want the context's error", path, err)
		}
	}
}

func TestFresh(t *testing.T) {
	var accepted atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		accepted.Store(r.Header.Get("Accept"))
		w.Write([]byte(content))
	}))
	defer server.Close()
	f := &Fetcher{Dir: t.TempDir()}
	b, err := f.Fresh(t.Context(), "x", []string{server.URL}, "text/x")
	if err != nil || string(b) != content || accepted.Load() != "text/x" {
		t.Errorf("Fresh() = %q, %v, with Accept %v", b, err, accepted.Load())
	}
	if entries, _ := os.ReadDir(f.Dir); len(entries) != 0 {
		t.Errorf("Fresh() cached %v", entries)
	}
}

func integrityOf(s string) string {
	sum := sha512.Sum512([]byte(s))
	return "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
}

func TestIntegrity(t *testing.T) {
	sum, err := Integrity(integrityOf(content))
	if err != nil {
		t.Fatal(err)
	}
	if err := sum.Check([]byte(content)); err != nil {
		t.Errorf("Check() of the right content = %v", err)
	}
	if err := sum.Check([]byte(content + " ")); !errdefs.IsDataLoss(err) {
		t.Errorf("Check() of other content = %v, want DataLoss", err)
	}
	for _, s := range []string{"", "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=", "sha512-", "sha512-AAAA", "sha512-!", integrityOf(content) + "=", integrityOf(content) + " " + integrityOf(content)} {
		if sum, err := Integrity(s); !errdefs.IsInvalidArgument(err) {
			t.Errorf("Integrity(%q) = %v, %v, want InvalidArgument", s, sum, err)
		}
	}
}

func FuzzIntegrity(f *testing.F) {
	f.Add(integrityOf(content))
	f.Add("sha512-AAAA")
	f.Fuzz(func(t *testing.T, s string) {
		sum, err := Integrity(s)
		if err != nil {
			return
		}
		if len(sum.Hex) != 128 || filepath.Base(sum.Hex) != sum.Hex {
			t.Errorf("Integrity(%q) = %+v", s, sum)
		}
	})
}
