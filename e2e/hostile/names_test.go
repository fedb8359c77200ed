package hostile

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// names is the DNS of the whole internet. What a name leads to, it says itself:
//
//	v4-10-0-0-5.ANY      that address; v6-64-ff9b--1.ANY likewise
//	rebind-10-0-0-5.ANY  the site at first, then that address, and so on in turn
//	many-10-0-0-5.ANY    twenty addresses, the site in the middle, the rest that one
//	last-10-0-0-5.ANY    the same with the site at the end
//	alias-10-0-0-5.ANY   a chain of CNAMEs to a name that has that address
//	loop.ANY             a CNAME to itself
//	none.ANY             nothing
//	ANY                  the site
type names struct {
	mu    sync.Mutex
	asked map[string]int // "A name."
}

func newNames(t *testing.T, world *namespace) *names {
	t.Helper()
	s := &names{asked: map[string]int{}}
	var conn net.PacketConn
	var ln net.Listener
	err := world.do(func() (err error) {
		if conn, err = net.ListenPacket("udp", nameServer); err != nil {
			return err
		}
		ln, err = net.Listen("tcp", nameServer)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); ln.Close() })
	go s.serve(conn)
	go s.serveStream(ln)
	return s
}

func (s *names) serve(conn net.PacketConn) {
	buf := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if answer := s.answer(buf[:n]); answer != nil {
			_, _ = conn.WriteTo(answer, from)
		}
	}
}

func (s *names) serveStream(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			length := make([]byte, 2)
			for {
				if _, err := io.ReadFull(conn, length); err != nil {
					return
				}
				query := make([]byte, binary.BigEndian.Uint16(length))
				if _, err := io.ReadFull(conn, query); err != nil {
					return
				}
				answer := s.answer(query)
				_, _ = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
			}
		}()
	}
}

func (s *names) answer(query []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	s.mu.Lock()
	asked := strings.TrimPrefix(q.Type.String(), "Type") + " " + q.Name.String()
	s.asked[asked]++
	turn := s.asked[asked]
	s.mu.Unlock()
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	chain, addrs := lookUp(strings.TrimSuffix(strings.ToLower(q.Name.String()), "."), turn)
	at := q.Name
	for _, to := range chain {
		alias := dnsmessage.MustNewName(to + ".")
		m.Answers = append(m.Answers, resource(at, dnsmessage.TypeCNAME, &dnsmessage.CNAMEResource{CNAME: alias}))
		at = alias
	}
	for _, addr := range addrs {
		switch {
		case addr.Is4() && q.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, resource(at, q.Type, &dnsmessage.AResource{A: addr.As4()}))
		case addr.Is6() && q.Type == dnsmessage.TypeAAAA:
			m.Answers = append(m.Answers, resource(at, q.Type, &dnsmessage.AAAAResource{AAAA: addr.As16()}))
		}
	}
	answer, err := m.Pack()
	if err != nil {
		return nil
	}
	return answer
}

func resource(name dnsmessage.Name, kind dnsmessage.Type, body dnsmessage.ResourceBody) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: name, Type: kind, Class: dnsmessage.ClassINET}, Body: body}
}

// lookUp says what a name leads to, the turn'th time that it is asked for.
func lookUp(name string, turn int) (chain []string, addrs []netip.Addr) {
	label, rest, _ := strings.Cut(name, ".")
	public := netip.MustParseAddr(site)
	kind, text, _ := strings.Cut(label, "-")
	addr := labelAddr(text)
	if kind == "v6" {
		addr, _ = netip.ParseAddr(strings.ReplaceAll(text, "-", ":"))
	}
	switch {
	case label == "none":
		return nil, nil
	case label == "loop":
		return []string{name}, nil
	case label == "strict":
		return nil, []netip.Addr{netip.MustParseAddr(strictSite)}
	case !addr.IsValid():
		return nil, []netip.Addr{public}
	case kind == "v4" || kind == "v6":
		return nil, []netip.Addr{addr}
	case kind == "rebind" && turn%2 == 1:
		return nil, []netip.Addr{public}
	case kind == "rebind":
		return nil, []netip.Addr{addr}
	case kind == "many":
		return nil, slices.Insert(slices.Repeat([]netip.Addr{addr}, 19), 10, public)
	case kind == "last":
		return nil, append(slices.Repeat([]netip.Addr{addr}, 19), public)
	case kind == "alias":
		for i := range 12 {
			chain = append(chain, "hop-"+string(rune('a'+i))+"."+rest)
		}
		return append(chain, "localhost"), []netip.Addr{addr}
	}
	return nil, []netip.Addr{public}
}

// labelAddr reads 10-0-0-5.
func labelAddr(text string) netip.Addr {
	addr, err := netip.ParseAddr(strings.ReplaceAll(text, "-", "."))
	if err != nil {
		return netip.Addr{}
	}
	return addr
}

// about returns the questions that hold a text.
func (s *names) about(text string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []string
	for asked := range s.asked {
		if strings.Contains(strings.ToLower(asked), text) {
			found = append(found, asked)
		}
	}
	slices.Sort(found)
	return found
}
