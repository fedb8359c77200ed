// Package fault gives an error what a person and a program need to act on it:
// a containerd/errdefs class, a stable code, and a hint that says what to do
// next. The edge (HTTP status, exit code) maps the class once.
package fault

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
)

// ErrPlugin is the class of failures that are the plugin's own: it threw, it
// crashed, it answered nonsense. The caller and the host did nothing wrong.
var ErrPlugin = errdefs.ErrAborted

// Error is an error with a class, a code and a hint. Make it with [New] and
// read it with [Of].
type Error struct {
	class error
	cause error

	// Code is stable and part of the API: "invalid_params", "plugin_crashed".
	Code string
	// Message is lower case, without the hint.
	Message string
	// Hint says what to do next, as a sentence or a command; may be empty.
	Hint string
	// Retryable says that the same request may well succeed soon.
	Retryable bool
	// Details are serialised for programs, for example the fields of the
	// parameters that do not fit; may be nil.
	Details any
}

// New makes an error of an errdefs class with a stable code. The message is
// formatted as fmt.Errorf does, %w included.
func New(class error, code, format string, args ...any) *Error {
	wrapped := fmt.Errorf(format, args...)
	return &Error{class: class, cause: wrapped, Code: code, Message: say(wrapped)}
}

// WithHint sets what to do next and returns e.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// WithRetry marks e as retryable and returns it.
func (e *Error) WithRetry() *Error {
	e.Retryable = true
	return e
}

// WithDetails sets e.Details and returns e.
func (e *Error) WithDetails(details any) *Error {
	e.Details = details
	return e
}

// Error returns the message, without the hint.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the class first, which is what errdefs.Resolve finds, and
// then the cause.
func (e *Error) Unwrap() []error { return []error{e.class, e.cause} }

// Of returns the first Error in err's chain, or one made from err's class
// with the class's name as its code.
func Of(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		if text := say(err); e.Message != text { // keep what was wrapped around it
			outer := *e
			outer.Message = text
			return &outer
		}
		return e
	}
	class := errdefs.Resolve(err)
	return &Error{class: class, cause: err, Code: codeOf(class), Message: say(err)}
}

// silent are the classes whose names say nothing to a person at the end of a
// message, where %w puts them.
var silent = []error{
	errdefs.ErrInvalidArgument, errdefs.ErrUnavailable, errdefs.ErrFailedPrecondition, errdefs.ErrResourceExhausted,
	errdefs.ErrConflict, errdefs.ErrAborted, errdefs.ErrDataLoss, errdefs.ErrInternal, errdefs.ErrUnknown,
}

// say is the text of err without the name of its class at the end. What the
// system said is left as it is: some of its words are the same.
func say(err error) string {
	text := err.Error()
	var system syscall.Errno
	if errors.As(err, &system) {
		return text
	}
	for _, class := range silent {
		if shorter, ok := strings.CutSuffix(text, ": "+class.Error()); ok && errors.Is(err, class) {
			return shorter
		}
	}
	return text
}

// Class returns the errdefs class of e.
func (e *Error) Class() error { return e.class }

func codeOf(class error) string {
	switch {
	case errdefs.IsNotFound(class):
		return "not_found"
	case errdefs.IsInvalidArgument(class):
		return "invalid_argument"
	case errdefs.IsAlreadyExists(class):
		return "already_exists"
	case errdefs.IsPermissionDenied(class):
		return "permission_denied"
	case errdefs.IsFailedPrecondition(class):
		return "failed_precondition"
	case errdefs.IsConflict(class):
		return "conflict"
	case errdefs.IsUnavailable(class):
		return "unavailable"
	case errdefs.IsDeadlineExceeded(class):
		return "timeout"
	case errdefs.IsCanceled(class):
		return "cancelled"
	case errdefs.IsAborted(class):
		return "plugin_failed"
	case errdefs.IsDataLoss(class):
		return "data_loss"
	case errdefs.IsResourceExhausted(class):
		return "resource_exhausted"
	}
	return "internal"
}
