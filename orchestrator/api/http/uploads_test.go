package httpapi

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
)

func TestUploadExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUploads(t.TempDir(), 100)
		kept, err := u.keep("default", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(uploadTTL - time.Second)
		u.mu.Lock()
		file := u.kept[uploadKey{"default", kept.ID}].file
		u.mu.Unlock()
		time.Sleep(2 * time.Second)
		if _, err := u.take("default", kept.ID); !errdefs.IsNotFound(err) {
			t.Errorf("got %v, want not found", err)
		}
		if _, err := file.Stat(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("the file is still open: %v", err)
		}
		if len(u.byTenant) != 0 {
			t.Errorf("places left over: %v", u.byTenant)
		}
	})
}

func TestUploadTaken(t *testing.T) {
	dir := t.TempDir()
	u := newUploads(dir, 100)
	kept, err := u.keep("default", strings.NewReader("content"))
	if err != nil {
		t.Fatal(err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
		t.Errorf("the upload has a name: %v, %v", names, err)
	}
	file, err := u.take("default", kept.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if text, err := io.ReadAll(file); err != nil || string(text) != "content" {
		t.Errorf("got %q, %v", text, err)
	}
}

func TestUploadFails(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		says string
	}{
		{"broken off", io.ErrUnexpectedEOF, "broke off"},
		{"too slow", os.ErrDeadlineExceeded, "not complete"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			u := newUploads(t.TempDir(), 100)
			_, err := u.keep("default", iotest.ErrReader(tc.err))
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v", err)
			}
			if len(u.byTenant) != 0 || len(u.kept) != 0 {
				t.Errorf("left over: %v %v", u.byTenant, u.kept)
			}
		})
	}
}
