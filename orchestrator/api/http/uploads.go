package httpapi

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// Bounds of kept uploads.
const (
	uploadTTL  = 10 * time.Minute
	maxUploads = 4 // of a tenant, those that are arriving included
)

// uploads keeps uploaded packages until an install takes them. They are files
// without a name, so that nothing of them outlives the process.
type uploads struct {
	dir   string
	limit int64 // bytes of one

	mu       sync.Mutex
	kept     map[uploadKey]*keptUpload
	byTenant map[string]int
}

type uploadKey struct{ tenant, id string }

type keptUpload struct {
	file  *os.File
	timer *time.Timer
}

func newUploads(dir string, limit int64) *uploads {
	return &uploads{dir: dir, limit: limit, kept: make(map[uploadKey]*keptUpload), byTenant: make(map[string]int)}
}

// keep reads an upload to its end and keeps it.
func (u *uploads) keep(tenant string, body io.Reader) (v1.Upload, error) {
	if err := u.reserve(tenant); err != nil {
		return v1.Upload{}, err
	}
	file, size, err := u.receive(body)
	if err != nil {
		u.release(tenant)
		return v1.Upload{}, err
	}
	key := uploadKey{tenant, rand.Text()}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.kept[key] = &keptUpload{file, time.AfterFunc(uploadTTL, func() { u.expire(key) })}
	return v1.Upload{ID: key.id, Size: size, ExpiresAt: time.Now().Add(uploadTTL)}, nil
}

// take hands a kept upload over, from its start. Its caller closes it.
func (u *uploads) take(tenant, id string) (*os.File, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	key := uploadKey{tenant, id}
	kept, ok := u.kept[key]
	if !ok {
		return nil, fault.New(errdefs.ErrNotFound, "upload_not_found", "there is no upload %q", id).
			WithHint("an upload is kept for %s and used once; upload again", uploadTTL)
	}
	kept.timer.Stop()
	u.forget(key)
	return kept.file, nil
}

func (u *uploads) expire(key uploadKey) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if kept, ok := u.kept[key]; ok {
		kept.file.Close()
		u.forget(key)
	}
}

// forget needs the lock.
func (u *uploads) forget(key uploadKey) {
	delete(u.kept, key)
	u.decrement(key.tenant)
}

func (u *uploads) reserve(tenant string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.byTenant[tenant] >= maxUploads {
		return fault.New(errdefs.ErrResourceExhausted, "too_many_uploads", "tenant %s has %d uploads waiting, no more are kept", tenant, maxUploads).
			WithHint("install one of them, or wait %s", uploadTTL).WithRetry()
	}
	u.byTenant[tenant]++
	return nil
}

func (u *uploads) release(tenant string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.decrement(tenant)
}

// decrement needs the lock.
func (u *uploads) decrement(tenant string) {
	if u.byTenant[tenant]--; u.byTenant[tenant] == 0 {
		delete(u.byTenant, tenant)
	}
}

// receive copies body into a file without a name and rewinds it.
func (u *uploads) receive(body io.Reader) (*os.File, int64, error) {
	file, err := os.CreateTemp(u.dir, "upload-*")
	if err != nil {
		return nil, 0, fmt.Errorf("cannot keep the upload: %w", err)
	}
	if err := os.Remove(file.Name()); err != nil {
		file.Close()
		return nil, 0, fmt.Errorf("cannot keep the upload: %w", err)
	}
	size, err := io.Copy(file, http.MaxBytesReader(nil, io.NopCloser(body), u.limit))
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		file.Close()
		return nil, 0, uploadError(err, u.limit)
	}
	return file, size, nil
}

func uploadError(err error, limit int64) error {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return fault.New(errdefs.ErrInvalidArgument, "upload_too_large", "the upload has more than %d bytes", limit).
			WithHint("leave out what the plugin does not need at run time")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("the upload was not complete within %s: %w", uploadTimeout, errdefs.ErrInvalidArgument)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the upload broke off: %w", errdefs.ErrInvalidArgument)
	}
	return fmt.Errorf("cannot keep the upload: %w", err)
}
