package forward

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// ownAddress is where the tests' name servers listen: no connection on
// 127.0.0.1 has a port there by chance.
var ownAddress = netip.MustParseAddrPort("127.77.0.1:0")

// table is a zone of fixed names.
var table = map[string][]netip.Addr{
	"api.example.test": {netip.MustParseAddr("127.1.2.3")},
	"localhost":        {loopback, netip.IPv6Loopback()},
}

var granted = zone{
	lookup: func(host string) ([]netip.Addr, dnsmessage.RCode) {
		addrs, ok := table[host]
		if !ok {
			return nil, dnsmessage.RCodeNameError
		}
		return addrs, dnsmessage.RCodeSuccess
	},
	missing: func(string) {},
}

func query(t testing.TB, name string, qtype dnsmessage.Type, class dnsmessage.Class) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 4711, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: qtype, Class: class}},
	}
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

func TestAnswer(t *testing.T) {
	const https, svcb = dnsmessage.Type(65), dnsmessage.Type(64)
	tests := []struct {
		name  string
		qtype dnsmessage.Type
		class dnsmessage.Class
		rcode dnsmessage.RCode
		addr  string
	}{
		{"api.example.test.", dnsmessage.TypeA, dnsmessage.ClassINET, dnsmessage.RCodeSuccess, "127.1.2.3"},
		{"aPi.ExAmple.Test.", dnsmessage.TypeA, dnsmessage.ClassINET, dnsmessage.RCodeSuccess, "127.1.2.3"},
		{"localhost.", dnsmessage.TypeA, dnsmessage.ClassINET, dnsmessage.RCodeSuccess, "127.0.0.1"},
		{"localhost.", dnsmessage.TypeAAAA, dnsmessage.ClassINET, dnsmessage.RCodeSuccess, "::1"},
		{"api.example.test.", dnsmessage.TypeAAAA, dnsmessage.ClassINET, dnsmessage.RCodeSuccess, ""},
		{"api.example.test.", dnsmessage.TypeTXT, dnsmessage.ClassINET, dnsmessage.RCodeSuccess, ""},
		{"api.example.test.", dnsmessage.TypeALL, dnsmessage.ClassINET, dnsmessage.RCodeSuccess, ""},
		{"api.example.test.", https, dnsmessage.ClassINET, dnsmessage.RCodeSuccess, ""},
		{"api.example.test.", svcb, dnsmessage.ClassINET, dnsmessage.RCodeSuccess, ""},
		{"other.example.test.", dnsmessage.TypeA, dnsmessage.ClassINET, dnsmessage.RCodeNameError, ""},
		{"a.api.example.test.", dnsmessage.TypeA, dnsmessage.ClassINET, dnsmessage.RCodeNameError, ""},
		{"example.test.", dnsmessage.TypeA, dnsmessage.ClassINET, dnsmessage.RCodeNameError, ""},
		{"c2VjcmV0.evil.test.", dnsmessage.TypeTXT, dnsmessage.ClassINET, dnsmessage.RCodeNameError, ""},
		{"other.example.test.", dnsmessage.TypeAAAA, dnsmessage.ClassINET, dnsmessage.RCodeNameError, ""},
		{"other.example.test.", dnsmessage.TypeALL, dnsmessage.ClassINET, dnsmessage.RCodeNameError, ""},
		{"other.example.test.", https, dnsmessage.ClassINET, dnsmessage.RCodeNameError, ""},
		{"api.example.test.", dnsmessage.TypeMX, dnsmessage.ClassINET, dnsmessage.RCodeSuccess, ""},
		{"api.example.test.", dnsmessage.TypeCNAME, dnsmessage.ClassINET, dnsmessage.RCodeSuccess, ""},
		{"_443._https.api.example.test.", svcb, dnsmessage.ClassINET, dnsmessage.RCodeNameError, ""},
		{".", dnsmessage.TypeNS, dnsmessage.ClassINET, dnsmessage.RCodeNameError, ""},
		{"api.example.test.", dnsmessage.TypeA, dnsmessage.ClassCHAOS, dnsmessage.RCodeRefused, ""},
	}
	for _, tt := range tests {
		var got dnsmessage.Message
		if err := got.Unpack(granted.answer(query(t, tt.name, tt.qtype, tt.class))); err != nil {
			t.Errorf("%s %v: %v", tt.name, tt.qtype, err)
			continue
		}
		if got.ID != 4711 || !got.Response || !got.RecursionDesired || got.RCode != tt.rcode {
			t.Errorf("%s %v: header %+v, want %v", tt.name, tt.qtype, got.Header, tt.rcode)
		}
		if len(got.Questions) != 1 || got.Questions[0].Name.String() != tt.name {
			t.Errorf("%s %v: the question came back as %v", tt.name, tt.qtype, got.Questions)
		}
		if addr := firstAddress(got); addr != tt.addr || len(got.Answers) > 1 {
			t.Errorf("%s %v: answers %v, want %q", tt.name, tt.qtype, got.Answers, tt.addr)
		}
	}
}

func firstAddress(m dnsmessage.Message) string {
	for _, r := range m.Answers {
		if a, ok := r.Body.(*dnsmessage.AResource); ok {
			return netip.AddrFrom4(a.A).String()
		}
		if a, ok := r.Body.(*dnsmessage.AAAAResource); ok {
			return netip.AddrFrom16(a.AAAA).String()
		}
	}
	return ""
}

func TestAnswerOddQueries(t *testing.T) {
	good := query(t, "api.example.test.", dnsmessage.TypeA, dnsmessage.ClassINET)
	edit := func(at int, value byte) []byte {
		q := bytes.Clone(good)
		q[at] = value
		return q
	}
	two := append(edit(5, 2), good[12:]...)
	tests := map[string]struct {
		query []byte
		rcode dnsmessage.RCode
		none  bool
	}{
		"empty":         {nil, 0, true},
		"cut header":    {good[:11], 0, true},
		"a response":    {edit(2, good[2]|0x80), 0, true},
		"an update":     {edit(2, 5<<3), dnsmessage.RCodeNotImplemented, false},
		"no question":   {edit(5, 0), dnsmessage.RCodeFormatError, false},
		"two questions": {two, dnsmessage.RCodeFormatError, false},
		"cut question":  {good[:20], dnsmessage.RCodeFormatError, false},
		"pointer loop":  {append(bytes.Clone(good[:12]), 0xc0, 12, 0, 1, 0, 1), dnsmessage.RCodeFormatError, false},
	}
	for name, tt := range tests {
		reply := granted.answer(tt.query)
		if tt.none {
			if reply != nil {
				t.Errorf("%s is answered by %x", name, reply)
			}
			continue
		}
		var got dnsmessage.Message
		if err := got.Unpack(reply); err != nil || got.RCode != tt.rcode || len(got.Answers) != 0 {
			t.Errorf("%s is answered by %+v, %v, want %v", name, got.Header, err, tt.rcode)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(query(f, "api.example.test.", dnsmessage.TypeA, dnsmessage.ClassINET))
	f.Add(query(f, "x.test.", dnsmessage.TypeTXT, dnsmessage.ClassCHAOS))
	f.Add([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		reply := granted.answer(data)
		if reply == nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(reply); err != nil {
			t.Fatalf("the reply cannot be read: %v", err)
		}
		if !m.Response || m.ID != binary.BigEndian.Uint16(data) || len(reply) > 1232 {
			t.Errorf("reply %+v of %d bytes", m.Header, len(reply))
		}
		if a := firstAddress(m); a != "" {
			name := strings.ToLower(strings.TrimSuffix(m.Questions[0].Name.String(), "."))
			if !slices.Contains(table[name], netip.MustParseAddr(a)) {
				t.Errorf("%q was answered by %s", name, a)
			}
		}
	})
}

func TestNameServer(t *testing.T) {
	s, err := startNameServer(t.Context(), ownAddress, granted)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	good := query(t, "api.example.test.", dnsmessage.TypeA, dnsmessage.ClassINET)
	check := func(reply []byte, via string) {
		t.Helper()
		var m dnsmessage.Message
		if err := m.Unpack(reply); err != nil || firstAddress(m) != "127.1.2.3" {
			t.Errorf("%s: %v, %v", via, m.Answers, err)
		}
	}

	udp, err := net.Dial("udp", s.udp.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	udp.SetDeadline(time.Now().Add(10 * time.Second))
	for _, junk := range [][]byte{{}, {1}, bytes.Repeat([]byte{0xff}, 8000), good} {
		if _, err := udp.Write(junk); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 1500)
	n, err := udp.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	check(buf[:n], "udp")

	tcp, err := net.Dial("tcp", s.tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	tcp.SetDeadline(time.Now().Add(10 * time.Second))
	for range 2 { // several queries on one connection
		if _, err := tcp.Write(append([]byte{0, byte(len(good))}, good...)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(tcp, buf[:2]); err != nil {
			t.Fatal(err)
		}
		n := int(binary.BigEndian.Uint16(buf))
		if _, err := io.ReadFull(tcp, buf[:n]); err != nil {
			t.Fatal(err)
		}
		check(buf[:n], "tcp")
	}
	if _, err := tcp.Write([]byte{0xff, 0xff}); err != nil {
		t.Fatal(err)
	}
	if _, err := tcp.Read(buf); err == nil {
		t.Error("a query of 65535 bytes was awaited")
	}
}

// TestNameServerOddTCP sends over TCP what is no query: the connection ends
// without an answer, and the server goes on.
func TestNameServerOddTCP(t *testing.T) {
	s, err := startNameServer(t.Context(), ownAddress, granted)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for name, sent := range map[string][]byte{
		"no query":       {0, 0},
		"half a length":  {0},
		"half a query":   {0, 40, 1, 2, 3},
		"junk":           {0, 3, 1, 2, 3},
		"too long":       {0x10, 0x01},
		"a response":     {0, 12, 0, 1, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"HTTP":           []byte("GET / HTTP/1.1\r\n\r\n"),
		"TLS":            {0x16, 3, 1, 2, 0, 1},
		"nothing at all": {},
	} {
		conn, err := net.Dial("tcp", s.tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(dnsIdle - time.Second))
		_, _ = conn.Write(sent)
		_ = conn.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(conn); len(got) != 0 || isTimeout(err) {
			t.Errorf("%s: answered %x, %v", name, got, err)
		}
		conn.Close()
	}
	if got := granted.answer(query(t, "api.example.test.", dnsmessage.TypeA, dnsmessage.ClassINET)); got == nil {
		t.Error("a good query is not answered any more")
	}
}

// TestNameServerConnections opens more connections than are served at once.
func TestNameServerConnections(t *testing.T) {
	s, err := startNameServer(t.Context(), ownAddress, granted)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	var conns []net.Conn
	for range maxDNSConns + 1 {
		conn, err := net.Dial("tcp", s.tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	last := conns[maxDNSConns]
	last.SetDeadline(time.Now().Add(dnsIdle - time.Second))
	if _, err := last.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("connection %d: %v, want it closed", maxDNSConns+1, err)
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// TestMissing says which queries are reported.
func TestMissing(t *testing.T) {
	var got []string
	z := zone{lookup: granted.lookup, missing: func(host string) { got = append(got, host) }}
	for _, q := range [][]byte{
		query(t, "Other.Example.test.", dnsmessage.TypeA, dnsmessage.ClassINET),
		query(t, "six.example.test.", dnsmessage.TypeAAAA, dnsmessage.ClassINET),
		query(t, "text.example.test.", dnsmessage.TypeTXT, dnsmessage.ClassINET),
		query(t, "https.example.test.", dnsmessage.Type(65), dnsmessage.ClassINET),
		query(t, "any.example.test.", dnsmessage.TypeALL, dnsmessage.ClassINET),
		query(t, "1.0.0.127.in-addr.arpa.", dnsmessage.TypePTR, dnsmessage.ClassINET),
		query(t, "chaos.example.test.", dnsmessage.TypeA, dnsmessage.ClassCHAOS),
		query(t, "api.example.test.", dnsmessage.TypeAAAA, dnsmessage.ClassINET),
	} {
		z.answer(q)
	}
	if want := []string{"other.example.test", "six.example.test", "text.example.test", "https.example.test", "any.example.test"}; !slices.Equal(got, want) {
		t.Errorf("missing %v, want %v", got, want)
	}
}
