package httpapi

import (
	"io"
	"time"
)

// NewTimedBody makes a timedBody.
func NewTimedBody(r io.Reader, deadline time.Time, set func(time.Time) error) io.Reader {
	return &timedBody{r, deadline, set}
}
