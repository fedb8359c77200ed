package httpapi

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// asked asks for a review and returns it and what becomes of it.
func asked(t *testing.T, r *reviews, ctx context.Context) (v1.Review, func() (Answer, error)) {
	t.Helper()
	sent, done := make(chan v1.Review, 1), make(chan struct{})
	var given Answer
	var err error
	go func() {
		defer close(done)
		given, err = r.ask(ctx, "default", v1.Review{Digest: "sha256:1"}, func(review v1.Review) error { sent <- review; return nil })
	}()
	return <-sent, func() (Answer, error) { <-done; return given, err }
}

func TestReviewIsAnsweredOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReviews()
		review, end := asked(t, r, t.Context())
		if review.ID == "" || !review.ExpiresAt.Equal(time.Now().Add(reviewTTL)) || review.Permissions == nil {
			t.Errorf("sent %+v", review)
		}
		for _, tc := range []struct {
			name, tenant, id, digest string
			code                     string
		}{
			{"another tenant", "acme", review.ID, "sha256:1", "review_not_found"},
			{"unknown", "default", "x", "sha256:1", "review_not_found"},
			{"another digest", "default", review.ID, "sha256:2", "review_changed"},
			{"answer", "default", review.ID, "sha256:1", ""},
			{"twice", "default", review.ID, "sha256:1", "already_answered"},
		} {
			err := r.answer(tc.tenant, tc.id, "uid:7", v1.ReviewAnswer{Digest: tc.digest, Accept: v1.AcceptBasic})
			if (err == nil) != (tc.code == "") || err != nil && fault.Of(err).Code != tc.code {
				t.Errorf("%s: %v, want %q", tc.name, err, tc.code)
			}
		}
		if given, err := end(); given != (Answer{Accept: v1.AcceptBasic, Actor: "uid:7"}) || err != nil {
			t.Errorf("got %+v, %v", given, err)
		}
		time.Sleep(reviewTTL - 1)
		if err := r.answer("default", review.ID, "uid:7", v1.ReviewAnswer{Digest: "sha256:1"}); fault.Of(err).Code != "already_answered" {
			t.Errorf("a while later: %v", err)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if err := r.answer("default", review.ID, "uid:7", v1.ReviewAnswer{}); !errdefs.IsNotFound(err) || len(r.pending) != 0 {
			t.Errorf("after its time: %v, %v", err, r.pending)
		}
	})
}

func TestReviewNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReviews()
		started := time.Now()
		review, end := asked(t, r, t.Context())
		if given, err := end(); given.Accept != v1.AcceptNone || err != nil || time.Since(started) != reviewTTL {
			t.Errorf("got %+v, %v after %s", given, err, time.Since(started))
		}
		if err := r.answer("default", review.ID, "uid:7", v1.ReviewAnswer{Digest: "sha256:1"}); !errdefs.IsNotFound(err) {
			t.Errorf("late answer: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		_, end = asked(t, r, ctx)
		cancel()
		if given, err := end(); given.Accept != v1.AcceptNone || !errors.Is(err, context.Canceled) {
			t.Errorf("client gone: %+v, %v", given, err)
		}
		given, err := r.ask(t.Context(), "default", v1.Review{}, func(v1.Review) error { return errors.New("broken pipe") })
		if given.Accept != v1.AcceptNone || !errors.Is(err, context.Canceled) {
			t.Errorf("not sent: %+v, %v", given, err)
		}
		if len(r.pending) != 0 {
			t.Errorf("left over: %v", r.pending)
		}
	})
}
