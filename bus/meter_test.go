package bus

import (
	"errors"
	"strings"
	"testing"
)

func TestMeter(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, stream string
		ops          int
		err          error
		idle         bool
	}{
		{"handshake", "CONNECT {}\r\nPING\r\n", 2, nil, true},
		{"empty payload", "CONNECT {}\r\nPUB a 0\r\n\r\nPONG\r\n", 3, nil, true},
		{"payload like a line", "CONNECT {}\r\nPUB a r 8\r\nPUB x 9\n\r\nUNSUB 1\r\n", 3, nil, true},
		{"headers", "CONNECT {}\r\nHPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\nSUB a  1\r\n", 3, nil, true},
		{"tabs", "CONNECT {}\r\nPUB a\tb\t1\r\nx\r\n", 2, nil, true},
		{"within a payload", "CONNECT {}\r\nPUB a 5\r\nab", 2, nil, false},
		{"within a line", "CONNECT {}\r\nPU", 1, nil, false},
		{"before connect", "", 0, nil, false},
		{"largest payload", "CONNECT {}\r\nPUB a 100\r\n", 2, nil, false},
		{"payload too large", "PUB a 101\r\n", 0, errPayload, false},
		{"size not a number", "PUB a 1x\r\n", 0, errProto, false},
		{"signed size", "PUB a +1\r\n", 0, errProto, false},
		{"size too long", "PUB a 0000000001\r\n", 0, errProto, false},
		{"no size", "PUB  \r\n", 0, errProto, false},
		{"lower case", "ping\r\n", 0, errProto, false},
		{"empty line", "\r\n", 0, errProto, false},
		{"bare line feed", "PING\n", 0, errProto, false},
		{"carriage return within", "PUB a\r 1\r\n", 0, errProto, false},
		{"ping with text", "PING x\r\n", 0, errProto, false},
		{"server's operation", "MSG a 1 1\r\n", 0, errProto, false},
		{"second connect", "CONNECT {}\r\nCONNECT {}\r\n", 1, errProto, false},
		{"longest line", "SUB " + strings.Repeat("x", maxControlLine-6) + "\r\n", 1, nil, false},
		{"line too long", "SUB " + strings.Repeat("x", maxControlLine-5) + "\r\n", 0, errLine, false},
		{"line without end", strings.Repeat("x", maxControlLine), 0, errLine, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, piece := range []int{len(tt.stream) + 1, 7, 1} {
				m := meter{maxPayload: 100}
				ops, err := feedPieces(&m, []byte(tt.stream), piece)
				if ops != tt.ops || !errors.Is(err, tt.err) {
					t.Errorf("in pieces of %d: got %d, %v, want %d, %v", piece, ops, err, tt.ops, tt.err)
				}
				if err == nil && m.idle() != tt.idle {
					t.Errorf("in pieces of %d: idle is %t, want %t", piece, m.idle(), tt.idle)
				}
			}
		})
	}
}

func feedPieces(m *meter, stream []byte, size int) (ops int, err error) {
	for len(stream) > 0 && err == nil {
		n := min(size, len(stream))
		var more int
		more, err = m.feed(stream[:n])
		ops += more
		stream = stream[n:]
	}
	return ops, err
}

// FuzzMeter expects that how a stream is cut makes no difference, and that the
// meter never keeps more than a line.
func FuzzMeter(f *testing.F) {
	f.Add([]byte("CONNECT {}\r\nPUB a r 8\r\nPUB x 9\n\r\nUNSUB 1\r\nHPUB a 1 2\r\nxx\r\n"), 3)
	f.Add([]byte("PUB a 99999\r\n"), 1)
	f.Add([]byte(strings.Repeat("SUB ", 2000)), 100)
	f.Fuzz(func(t *testing.T, stream []byte, size int) {
		if size < 1 {
			size = 1
		}
		whole, pieces := meter{maxPayload: 1000}, meter{maxPayload: 1000}
		wantOps, wantErr := whole.feed(stream)
		gotOps, gotErr := feedPieces(&pieces, stream, size)
		if gotOps != wantOps || !errors.Is(gotErr, wantErr) {
			t.Fatalf("in pieces of %d: got %d, %v, want %d, %v", size, gotOps, gotErr, wantOps, wantErr)
		}
		if wantErr == nil && (whole.skip != pieces.skip || string(whole.line) != string(pieces.line)) {
			t.Fatalf("in pieces of %d: ends at %d, %q, want %d, %q", size, pieces.skip, pieces.line, whole.skip, whole.line)
		}
		if len(pieces.line) > maxControlLine || pieces.skip > 1002 {
			t.Fatalf("keeps %d bytes, skips %d", len(pieces.line), pieces.skip)
		}
	})
}
