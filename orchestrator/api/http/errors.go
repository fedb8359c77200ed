package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// apiError is an error of a handler as huma wants it.
type apiError struct {
	body   v1.Error
	status int
	header http.Header
}

func newAPIError(err error) *apiError {
	if e, ok := errors.AsType[*apiError](err); ok {
		return e
	}
	body, status := v1.ErrorOf(err)
	e := &apiError{body: body, status: status}
	if body.Retryable && (status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests) {
		e.header = http.Header{"Retry-After": {retryAfter}}
	}
	return e
}

// retryAfter is when a request may succeed that cannot be answered now,
// seconds: a plugin is back within one, as a rule.
const retryAfter = "1"

func (e *apiError) Error() string                { return e.body.Message }
func (e *apiError) GetStatus() int               { return e.status }
func (e *apiError) GetHeaders() http.Header      { return e.header }
func (e *apiError) MarshalJSON() ([]byte, error) { return json.Marshal(e.body) }

// transformError gives huma's own errors, for requests that it refuses, the
// shape of all others.
func transformError(_ huma.Context, _ string, v any) (any, error) {
	refused, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	return newAPIError(requestError(refused)).body, nil
}

func requestError(m *huma.ErrorModel) error {
	if m.Status >= http.StatusInternalServerError {
		return fault.New(errdefs.ErrInternal, "internal", "cannot answer the request: %s", m.Detail)
	}
	var reasons []string
	for _, d := range m.Errors {
		reasons = append(reasons, strings.TrimPrefix(d.Location+": ", ": ")+d.Message)
	}
	if len(reasons) == 0 {
		reasons = []string{m.Detail}
	}
	return fault.New(errdefs.ErrInvalidArgument, "invalid_request", "the request is not valid: %s", strings.Join(reasons, "; ")).
		WithHint("the API is described at /v1/openapi.json")
}

// refusedStatus is the status of a request that huma refused with status.
func refusedStatus(status int) int {
	switch status {
	case http.StatusNotAcceptable, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge,
		http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return http.StatusBadRequest
	}
	return status
}

// errorResponse documents that every operation may answer with a v1.Error.
func errorResponse(routes huma.API) map[string]*huma.Response {
	schema := routes.OpenAPI().Components.Schemas.Schema(typeOf[v1.Error](), true, "Error")
	return map[string]*huma.Response{"default": {
		Description: "Error",
		Content:     map[string]*huma.MediaType{"application/json": {Schema: schema}},
	}}
}

// dropHumaErrors takes huma's own error types, which are never sent, out of
// the OpenAPI document.
func dropHumaErrors(routes huma.API) {
	schemas := routes.OpenAPI().Components.Schemas.Map()
	delete(schemas, "ErrorModel")
	delete(schemas, "ErrorDetail")
}

func noRoute(w http.ResponseWriter, r *http.Request) {
	writeError(w, fault.New(errdefs.ErrNotFound, "no_route", "there is no %s %s", r.Method, r.URL.Path).
		WithHint("the API is described at /v1/openapi.json"))
}

// writeError answers with err, outside of huma.
func writeError(w http.ResponseWriter, err error) {
	e := newAPIError(err)
	text, jsonErr := json.Marshal(e)
	if jsonErr != nil {
		text = fmt.Appendf(nil, `{"class":"internal","code":"internal","message":%q,"retryable":false}`, jsonErr)
	}
	w.Header().Set("Content-Type", "application/json")
	maps.Copy(w.Header(), e.header)
	w.WriteHeader(e.status)
	w.Write(append(text, '\n')) //nolint:errcheck // the client is gone, and nobody else is to be told
}
