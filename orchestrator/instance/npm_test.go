package instance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
)

// Loading the install image is reported by the MiB, and nothing is where it
// was there already.
func TestInstallImageProgress(t *testing.T) {
	failure := errors.New("no such image")
	for name, c := range map[string]struct {
		load func(progress func(done, total int64)) error
		want []string
	}{
		"there already": {func(func(done, total int64)) error { return nil }, nil},
		"loaded": {func(progress func(done, total int64)) error {
			for done := int64(0); done <= 2<<20; done += 256 << 10 {
				progress(done, 2<<20)
			}
			return nil
		}, []string{"loading the image that npm runs in, MiB 1/2", "loading the image that npm runs in, MiB 2/2", "starting npm 0/0"}},
		"broken off": {func(progress func(done, total int64)) error {
			progress(1<<20, 2<<20)
			return failure
		}, []string{"loading the image that npm runs in, MiB 1/2"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := &Factory{Config: Config{EnsureInstallImage: func(_ context.Context, progress func(done, total int64)) error { return c.load(progress) }}}
			var got []string
			err := f.ensureInstallImage(t.Context(), func(message string, done, total int64) {
				got = append(got, fmt.Sprintf("%s %d/%d", message, done, total))
			})
			if err != nil && !errors.Is(err, failure) {
				t.Error(err)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
