package httpapi

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// reviewTTL is how long an install waits for a person.
const reviewTTL = 10 * time.Minute

// reviews holds the reviews that installs wait for, and for the rest of their
// time those that were answered.
type reviews struct {
	mu      sync.Mutex
	pending map[reviewKey]*pendingReview
}

type reviewKey struct{ tenant, id string }

type pendingReview struct {
	digest   string
	answered bool
	answer   chan Answer // has room for the one answer
}

func newReviews() *reviews { return &reviews{pending: make(map[reviewKey]*pendingReview)} }

// ask sends a review and waits for its answer. When ctx ends it is AcceptNone
// with ctx's error, and after reviewTTL AcceptNone.
func (r *reviews) ask(ctx context.Context, tenant string, review v1.Review, send func(v1.Review) error) (Answer, error) {
	review.ID, review.ExpiresAt = rand.Text(), time.Now().Add(reviewTTL)
	review.Permissions = orEmpty(review.Permissions)
	key := reviewKey{tenant, review.ID}
	p := &pendingReview{digest: review.Digest, answer: make(chan Answer, 1)}
	r.mu.Lock()
	r.pending[key] = p
	r.mu.Unlock()
	if err := send(review); err != nil {
		r.forget(key)
		return nobody, fmt.Errorf("cannot show the review (%w): %w", err, context.Canceled)
	}
	timeout := time.NewTimer(reviewTTL)
	defer timeout.Stop()
	var err error
	select {
	case given := <-p.answer: // it stays for the rest of its time, to say so
		time.AfterFunc(time.Until(review.ExpiresAt), func() { r.forget(key) })
		return given, nil
	case <-timeout.C:
	case <-ctx.Done():
		err = ctx.Err()
	}
	r.forget(key)
	select {
	case given := <-p.answer: // in the last moment
		if err == nil {
			return given, nil
		}
	default:
	}
	return nobody, err
}

// nobody is the answer of a person who gave none.
var nobody = Answer{Accept: v1.AcceptNone}

// answer answers a pending review, as actor.
func (r *reviews) answer(tenant, id, actor string, a v1.ReviewAnswer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.pending[reviewKey{tenant, id}]
	switch {
	case p == nil:
		return fault.New(errdefs.ErrNotFound, "review_not_found", "no install waits for the review %q", shorten(id)).
			WithHint("a review is open for %s and as long as its install; install again", reviewTTL)
	case p.answered:
		return fault.New(errdefs.ErrConflict, "already_answered", "the review was answered already")
	case p.digest != a.Digest:
		return fault.New(errdefs.ErrConflict, "review_changed", "the answer is to another review than the one that is open").
			WithHint("show the review again, and answer with its digest")
	}
	p.answered = true
	p.answer <- Answer{Accept: a.Accept, Actor: actor}
	return nil
}

func (r *reviews) forget(key reviewKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pending, key)
}

type reviewInput struct {
	TenantParam
	Review string `path:"review" maxLength:"64" doc:"id of the review"`
	Body   v1.ReviewAnswer
}

func (a *api) answerReview(ctx context.Context, in *reviewInput) (*struct{}, error) {
	return nil, a.reviews.answer(in.Tenant, in.Review, CallerOf(ctx).Actor, in.Body)
}
