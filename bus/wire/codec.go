package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"github.com/containerd/errdefs"
)

// Names of the messages, the value of "type".
const (
	TypeHello      = "hello"
	TypeLoad       = "load"
	TypeReady      = "ready"
	TypeFailed     = "failed"
	TypeToolCall   = "tool.call"
	TypeToolResult = "tool.result"
	TypeProgress   = "progress"
	TypeCancel     = "cancel"
	TypePing       = "ping"
	TypePong       = "pong"
	TypeStop       = "stop"
	TypeStopped    = "stopped"
	TypeAck        = "ack"
)

// Bounds of encoded messages, in bytes. Decoding a list costs a multiple of
// its text in memory, so that the messages which hold lists have the tighter
// bounds.
const (
	MaxSize      = 4 << 20  // any message; what carries a tool's parameters or result
	MaxReadySize = 1 << 20  // [Ready]
	MaxFailSize  = 64 << 10 // [Failed]
	MaxSmallSize = 4 << 10  // everything without free-form content
)

// MaxItems is how many registrations, and how many diagnostics, a message may
// hold.
const MaxItems = 1024

// Message is a pointer to one of the message types of this package.
type Message interface {
	meta() meta
	check() error // what the types cannot say; nil when the message is sound
}

type meta struct {
	field *string // the message's Type
	name  string
	limit int // bytes
}

func (m *Hello) meta() meta      { return meta{&m.Type, TypeHello, MaxSmallSize} }
func (m *Load) meta() meta       { return meta{&m.Type, TypeLoad, MaxSize} }
func (m *Ready) meta() meta      { return meta{&m.Type, TypeReady, MaxReadySize} }
func (m *Failed) meta() meta     { return meta{&m.Type, TypeFailed, MaxFailSize} }
func (m *ToolCall) meta() meta   { return meta{&m.Type, TypeToolCall, MaxSize} }
func (m *ToolResult) meta() meta { return meta{&m.Type, TypeToolResult, MaxSize} }
func (m *Progress) meta() meta   { return meta{&m.Type, TypeProgress, MaxSize} }
func (m *Cancel) meta() meta     { return meta{&m.Type, TypeCancel, MaxSmallSize} }
func (m *Ping) meta() meta       { return meta{&m.Type, TypePing, MaxSmallSize} }
func (m *Pong) meta() meta       { return meta{&m.Type, TypePong, MaxSmallSize} }
func (m *Stop) meta() meta       { return meta{&m.Type, TypeStop, MaxSmallSize} }
func (m *Stopped) meta() meta    { return meta{&m.Type, TypeStopped, MaxSmallSize} }
func (m *Ack) meta() meta        { return meta{&m.Type, TypeAck, MaxSmallSize} }

// Encode returns msg as JSON with its Type set. An error is InvalidArgument:
// the message is not sound, holds invalid JSON, or is too large.
func Encode(msg Message) ([]byte, error) {
	m := msg.meta()
	*m.field = m.name
	if err := msg.check(); err != nil {
		return nil, fmt.Errorf("cannot encode message %q: %w: %w", m.name, err, errdefs.ErrInvalidArgument)
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false) // as JSON.stringify writes it
	if err := enc.Encode(msg); err != nil {
		return nil, fmt.Errorf("cannot encode message %q: %w: %w", m.name, err, errdefs.ErrInvalidArgument)
	}
	data := bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	if len(data) > m.limit {
		return nil, tooLarge("encode", m, len(data))
	}
	return data, nil
}

// Decode parses data, which must be exactly one JSON object of into's type,
// within the type's size and sound by the type's own rules. Fields that are
// not known are ignored, so that a newer side can add some. An error is
// InvalidArgument, or FailedPrecondition for a Hello without a common wire
// version; into is then undefined.
func Decode(data []byte, into Message) error {
	m := into.meta()
	if len(data) > m.limit {
		return tooLarge("decode", m, len(data))
	}
	if !utf8.Valid(data) { // encoding/json lets it pass in texts, and what is raw is passed on
		return fmt.Errorf("cannot decode message %q: it is no UTF-8: %w", m.name, errdefs.ErrInvalidArgument)
	}
	if err := checkType(data, m.name); err != nil {
		return fmt.Errorf("cannot decode message %q: %w: %w", m.name, err, errdefs.ErrInvalidArgument)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("cannot decode message %q: %w: %w", m.name, err, errdefs.ErrInvalidArgument)
	}
	if err := into.check(); err != nil {
		if errdefs.IsFailedPrecondition(err) {
			return fmt.Errorf("cannot decode message %q: %w", m.name, err)
		}
		return fmt.Errorf("cannot decode message %q: %w: %w", m.name, err, errdefs.ErrInvalidArgument)
	}
	return nil
}

func tooLarge(doing string, m meta, size int) error {
	return fmt.Errorf("cannot %s message %q: it has %d bytes, at most %d are allowed: %w",
		doing, m.name, size, m.limit, errdefs.ErrInvalidArgument)
}

// checkType looks at the form of data and at its type before anything of it
// is believed.
func checkType(data []byte, want string) error {
	var head struct {
		Type *string `json:"type"`
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	switch err := dec.Decode(&head); {
	case errors.Is(err, io.EOF):
		return errors.New("it is empty")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it is truncated")
	case err != nil:
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows after its end")
	}
	if head.Type == nil {
		return errors.New("it has no type")
	}
	if *head.Type != want {
		return fmt.Errorf("its type is %.64q", *head.Type)
	}
	return nil
}

func (m *Hello) check() error {
	if !slices.Contains(m.Wire, Version) {
		return fmt.Errorf("the runner speaks the wire versions %v, the host speaks %d: %w",
			m.Wire, Version, errdefs.ErrFailedPrecondition)
	}
	return nil
}

func (m *Load) check() error {
	if m.Mode != ModeFull && m.Mode != ModeDiscovery {
		return fmt.Errorf("mode is %.64q", m.Mode)
	}
	return nil
}

func (m *Ready) check() error {
	if len(m.Registrations) > MaxItems {
		return fmt.Errorf("it holds %d registrations, at most %d are allowed", len(m.Registrations), MaxItems)
	}
	for i, r := range m.Registrations {
		if r.Kind == "" {
			return fmt.Errorf("registration %d has no kind", i)
		}
	}
	return checkDiagnostics(m.Diagnostics)
}

func (m *Failed) check() error {
	if m.Error.Code == "" {
		return errors.New("error has no code")
	}
	return checkDiagnostics(m.Diagnostics)
}

func checkDiagnostics(list []Diagnostic) error {
	if len(list) > MaxItems {
		return fmt.Errorf("it holds %d diagnostics, at most %d are allowed", len(list), MaxItems)
	}
	return nil
}

func (m *ToolCall) check() error { return checkID(m.ID) }
func (m *Progress) check() error { return checkID(m.ID) }
func (m *Cancel) check() error   { return checkID(m.ID) }

func (m *ToolResult) check() error {
	if (m.Result == nil) == (m.Error == nil) {
		return errors.New("exactly one of result and error must be set")
	}
	if m.Error != nil && m.Error.Code == "" {
		return errors.New("error has no code")
	}
	return checkID(m.ID)
}

func checkID(id string) error {
	if id == "" {
		return errors.New("it has no id")
	}
	return nil
}

func (m *Ping) check() error    { return nil }
func (m *Pong) check() error    { return nil }
func (m *Stop) check() error    { return nil }
func (m *Stopped) check() error { return nil }
func (m *Ack) check() error     { return nil }
