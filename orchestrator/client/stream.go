package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client/gen"
)

// maxEvent bounds an event of a stream, bytes.
const maxEvent = 32 << 20

// message is a server-sent event.
type message struct {
	id, name string
	data     []byte
}

// messages reads server-sent events.
type messages struct {
	lines *bufio.Scanner
	id    string // the last one; it stays until there is another
}

func newMessages(r io.Reader) *messages {
	m := &messages{lines: bufio.NewScanner(r)}
	m.lines.Buffer(nil, maxEvent)
	return m
}

// next returns the next event that has data. At the end of the stream it is
// io.EOF; what was begun then is dropped, as the standard has it.
func (m *messages) next() (message, error) {
	var name string
	var data [][]byte
	size := 0
	for m.lines.Scan() {
		line := m.lines.Bytes()
		if len(line) == 0 {
			if data != nil {
				return message{m.id, name, bytes.Join(data, []byte("\n"))}, nil
			}
			name = ""
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":")) // a comment has no field
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "event":
			name = string(value)
		case "id":
			m.id = string(value)
		case "data":
			if size += len(value) + 1; size > maxEvent {
				return message{}, bufio.ErrTooLong
			}
			data = append(data, bytes.Clone(value))
		}
	}
	if err := m.lines.Err(); err != nil {
		return message{}, err
	}
	return message{}, io.EOF
}

// brokenStream is an event stream without its last event.
type brokenStream struct{ err error }

func (b *brokenStream) Error() string { return b.err.Error() }

// follow sends a request and reads its events up to the last one: done holds
// the result, error why there is none. on gets the others.
func follow[T any](ctx context.Context, c *Client, r gen.Request[gen.Stream], on func(name string, data []byte) error) (T, error) {
	response, err := send(ctx, c, r)
	if err != nil {
		var none T
		return none, err
	}
	defer response.Body.Close()
	result, err := readResult[T](response.Body, on)
	return result, whyBroken(ctx, err)
}

// whyBroken gives a brokenStream its class; other errors have theirs.
func whyBroken(ctx context.Context, err error) error {
	var broken *brokenStream
	if errors.As(err, &broken) {
		return ended(ctx, broken.err)
	}
	return err
}

// readResult reads events up to the last one. What is not a stream of them is
// a brokenStream.
func readResult[T any](r io.Reader, on func(name string, data []byte) error) (result T, err error) {
	events := newMessages(r)
	for {
		m, err := events.next()
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return result, &brokenStream{err}
		}
		switch m.name {
		case v1.EventDone:
			err := decode(m.name, m.data, &result)
			return result, err
		case v1.EventError:
			return result, streamError(m.data)
		}
		if err := on(m.name, m.data); err != nil {
			return result, err
		}
	}
}

// streamError returns the error that an event holds.
func streamError(data []byte) error {
	var e v1.Error
	if err := decode(v1.EventError, data, &e); err != nil {
		return err
	}
	return e.Err()
}

// decode reads an event's data.
func decode(name string, data []byte, out any) error {
	if err := json.Unmarshal(data, out); err != nil {
		return &brokenStream{fmt.Errorf("event %q: %w", name, err)}
	}
	return nil
}
