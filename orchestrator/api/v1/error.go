package v1

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// Error is the body of every answer that is not a success.
type Error struct {
	Class     string          `json:"class" doc:"kind of the error, from a fixed set" example:"not_found"`
	Code      string          `json:"code" doc:"stable name of the error" example:"plugin_not_found"`
	Message   string          `json:"message"`
	Hint      string          `json:"hint,omitempty" doc:"what to do next"`
	Retryable bool            `json:"retryable" doc:"the same request may well succeed soon"`
	Details   json.RawMessage `json:"details,omitempty" doc:"more for programs; depends on the code"`
}

// classes lists the classes of errors with their names and HTTP statuses. 499
// is nginx's number for a client that went away.
var classes = []struct {
	class  error
	name   string
	status int
}{
	{errdefs.ErrInvalidArgument, "invalid_argument", 400},
	{errdefs.ErrUnauthenticated, "unauthenticated", 401},
	{errdefs.ErrPermissionDenied, "permission_denied", 403},
	{errdefs.ErrNotFound, "not_found", 404},
	{errdefs.ErrAlreadyExists, "already_exists", 409},
	{errdefs.ErrConflict, "conflict", 409},
	{errdefs.ErrFailedPrecondition, "failed_precondition", 409},
	{errdefs.ErrResourceExhausted, "resource_exhausted", 429},
	{context.Canceled, "cancelled", 499},
	{errdefs.ErrInternal, "internal", 500},
	{errdefs.ErrDataLoss, "data_loss", 500},
	{fault.ErrPlugin, "plugin", 502},
	{errdefs.ErrUnavailable, "unavailable", 503},
	{context.DeadlineExceeded, "deadline_exceeded", 504},
}

// ErrorOf returns err as the API says it, with its HTTP status. An error
// without a class is internal.
func ErrorOf(err error) (e Error, status int) {
	f := fault.Of(err)
	e = Error{Class: "internal", Code: f.Code, Message: f.Message, Hint: f.Hint, Retryable: f.Retryable}
	status = 500
	for _, c := range classes {
		if errors.Is(f.Class(), c.class) {
			e.Class, status = c.name, c.status
			break
		}
	}
	e.Message = strings.TrimSuffix(e.Message, ": "+f.Class().Error()) // the class is told apart
	if f.Details != nil {
		if details, err := json.Marshal(f.Details); err == nil {
			e.Details = details
		}
	}
	return e, status
}

// Err returns the error that e describes, with the class it had on the other
// side.
func (e Error) Err() error {
	var class error = errdefs.ErrInternal
	for _, c := range classes {
		if c.name == e.Class {
			class = c.class
		}
	}
	f := fault.New(class, e.Code, "%s", e.Message)
	f.Hint, f.Retryable = e.Hint, e.Retryable
	if len(e.Details) > 0 {
		f.Details = e.Details
	}
	return f
}
