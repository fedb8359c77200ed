// Package fetch downloads files whose content is known beforehand, and keeps
// what it verified.
//
// A file is returned only as the bytes whose digest was computed, so nothing
// can change between checking and use. Every place that may have the file is
// tried, several times where that can help. The cache is re-verified on every
// use and may be deleted at any time.
package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containerd/errdefs"
)

const (
	// defaultMax bounds one file, in bytes. The largest that is fetched today,
	// a Node package, has 53 MB.
	defaultMax = 256 << 20
	// rounds is how often all URLs are tried.
	rounds = 3
	// attemptTimeout bounds one download of one URL.
	attemptTimeout = 10 * time.Minute
	// headerTimeout bounds the wait for an answer to begin.
	headerTimeout = 30 * time.Second
)

// File is something to fetch.
type File struct {
	Name string   // for messages and logs
	URLs []string // places that may have it, the preferred one first
	Size int64    // in bytes; 0 when not known
	Sum  Sum
}

// Fetcher fetches files. The zero value has no cache and logs nothing.
type Fetcher struct {
	Dir    string        // cache of verified files; empty for none
	Client *http.Client  // nil for one with sensible timeouts
	Log    *slog.Logger  // nil for none
	Pause  time.Duration // before the second round, doubled after; 0 means 1 s
	Max    int64         // size of a file, in bytes; 0 means 256 MiB
}

// Get returns the content of the file, from the cache or from the first URL
// that has it. It fails with NotFound when every place answers that it has no
// such file, with DataLoss when one had other content and with Unavailable
// otherwise.
func (f *Fetcher) Get(ctx context.Context, file File) ([]byte, error) {
	if err := file.Sum.validate(); err != nil {
		return nil, fmt.Errorf("cannot fetch %s: %w", file.Name, err)
	}
	cached := filepath.Join(f.Dir, file.Sum.Algorithm+"-"+file.Sum.Hex)
	if f.Dir != "" {
		b, err := os.ReadFile(cached)
		if err == nil && file.check(b) == nil {
			return b, nil
		}
	}
	b, err := f.download(ctx, file.Name, file.URLs, "", file.check)
	if err != nil {
		return nil, err
	}
	if f.Dir == "" {
		return b, nil
	}
	return b, store(cached, b)
}

// Fresh returns what is at the first URL that answers, neither verified nor
// cached: for what carries its own signature, or is trusted for the connection
// it came over. accept, if not empty, is the Accept header.
func (f *Fetcher) Fresh(ctx context.Context, name string, urls []string, accept string) ([]byte, error) {
	return f.download(ctx, name, urls, accept, func([]byte) error { return nil })
}

// check says whether b is the file.
func (file File) check(b []byte) error {
	if file.Size != 0 && int64(len(b)) != file.Size {
		return fmt.Errorf("it has %d bytes instead of %d: %w", len(b), file.Size, errdefs.ErrDataLoss)
	}
	return file.Sum.Check(b)
}

func (f *Fetcher) download(ctx context.Context, name string, urls []string, accept string, check func([]byte) error) ([]byte, error) {
	pause := cmp.Or(f.Pause, time.Second)
	var errs []error
	for round := range rounds {
		if round > 0 {
			if err := sleep(ctx, pause<<(round-1)); err != nil {
				return nil, err
			}
		}
		errs = nil
		for _, url := range urls {
			b, err := f.attempt(ctx, name, url, accept, check)
			if err == nil {
				return b, nil
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			errs = append(errs, fmt.Errorf("%s: %w", url, err))
		}
		if allMissing(errs) {
			break
		}
	}
	return nil, fmt.Errorf("cannot fetch %s: %v: %w", name, errors.Join(errs...), classOf(errs)) //nolint:errorlint // one class for all attempts
}

// attempt fetches one URL once.
func (f *Fetcher) attempt(ctx context.Context, name, url, accept string, check func([]byte) error) ([]byte, error) {
	if f.Log != nil {
		f.Log.Info("fetching", "name", name, "url", url)
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	res, err := f.client().Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusGone:
		return nil, fmt.Errorf("%s: %w", res.Status, errdefs.ErrNotFound)
	default:
		return nil, fmt.Errorf("%s: %w", res.Status, errdefs.ErrUnavailable)
	}
	limit := cmp.Or(f.Max, defaultMax)
	b, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("it has more than %d bytes: %w", limit, errdefs.ErrDataLoss)
	}
	return b, check(b)
}

func (f *Fetcher) client() *http.Client {
	if f.Client != nil {
		return f.Client
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = headerTimeout
	transport.DisableKeepAlives = true
	return &http.Client{Transport: transport}
}

// store puts b at path in one step, so that no reader sees half of it.
func store(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("cannot make the cache: %w: %w", err, errdefs.ErrUnknown)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("cannot write to the cache: %w: %w", err, errdefs.ErrUnknown)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(b)
	if err := errors.Join(err, tmp.Close()); err != nil {
		return fmt.Errorf("cannot write to the cache: %w: %w", err, errdefs.ErrUnknown)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return fmt.Errorf("cannot write to the cache: %w: %w", err, errdefs.ErrUnknown)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// classOf is the one class of what went wrong at all the URLs.
func classOf(errs []error) error {
	switch {
	case allMissing(errs):
		return errdefs.ErrNotFound
	case slices.ContainsFunc(errs, errdefs.IsDataLoss):
		return errdefs.ErrDataLoss
	}
	return errdefs.ErrUnavailable
}

func allMissing(errs []error) bool {
	return !slices.ContainsFunc(errs, func(err error) bool { return !errdefs.IsNotFound(err) })
}
