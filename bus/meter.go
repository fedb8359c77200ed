package bus

import "bytes"

// maxControlLine bounds a line of the protocol, its end included, bytes.
const maxControlLine = 4096

// violation of the protocol costs the connection that committed it. The texts
// are the NATS server's own, since clients know them.
type violation string

const (
	errLine    violation = "Maximum Control Line Exceeded"
	errProto   violation = "Unknown Protocol Operation"
	errPayload violation = "Maximum Payload Violation"
)

func (v violation) Error() string { return string(v) }

// meter follows what a client sends just closely enough to count operations
// and to know where payloads are. It accepts less than the server does: every
// line that it lets pass frames the stream for the server as it does here, or
// makes the server close the connection.
type meter struct {
	maxPayload int
	line       []byte // the start of a line that came in pieces
	skip       int    // what is left of a payload and its line end, bytes
	connected  bool
}

// feed takes the next bytes of the stream and returns how many operations
// they complete. After an error the stream must not be used further.
func (m *meter) feed(p []byte) (ops int, err error) {
	for len(p) > 0 {
		if m.skip > 0 {
			n := min(m.skip, len(p))
			m.skip -= n
			p = p[n:]
			continue
		}
		end := bytes.IndexByte(p, '\n') + 1
		if end == 0 {
			if len(m.line)+len(p) >= maxControlLine {
				return ops, errLine
			}
			m.line = append(m.line, p...)
			return ops, nil
		}
		line := p[:end]
		p = p[end:]
		if len(m.line) > 0 {
			m.line = append(m.line, line...)
			line = m.line
		}
		if err := m.control(line); err != nil {
			return ops, err
		}
		m.line = m.line[:0]
		ops++
	}
	return ops, nil
}

// idle tells whether the stream stands between two operations.
func (m *meter) idle() bool { return m.connected && m.skip == 0 && len(m.line) == 0 }

// control takes one whole line.
func (m *meter) control(line []byte) error {
	if len(line) > maxControlLine {
		return errLine
	}
	line, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok || bytes.IndexByte(line, '\r') >= 0 {
		return errProto
	}
	op, args, _ := bytes.Cut(line, []byte(" "))
	switch string(op) {
	case "PUB", "HPUB":
		return m.payload(args)
	case "SUB", "UNSUB":
		return nil
	case "PING", "PONG":
		if len(op) != len(line) {
			return errProto
		}
		return nil
	case "CONNECT":
		// A second one would let a client out of its subscription count.
		if m.connected {
			return errProto
		}
		m.connected = true
		return nil
	}
	return errProto
}

// payload takes the arguments of a publication, of which the last is the
// payload's size, headers included.
func (m *meter) payload(args []byte) error {
	args = bytes.TrimRight(args, " \t")
	size := args[bytes.LastIndexAny(args, " \t")+1:]
	if len(size) == 0 || len(size) > 9 { // as many digits as the server reads
		return errProto
	}
	n := 0
	for _, c := range size {
		if c < '0' || c > '9' {
			return errProto
		}
		n = n*10 + int(c-'0')
	}
	if n > m.maxPayload {
		return errPayload
	}
	m.skip = n + len("\r\n")
	return nil
}
