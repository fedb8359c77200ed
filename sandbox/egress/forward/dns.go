package forward

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// ttl of an answer, in seconds: short, since grants come and go.
	ttl = 5
	// maxQuery is the longest query that is read, in bytes.
	maxQuery = 4096
	// maxDNSConns bounds the TCP connections to the name server.
	maxDNSConns = 32
	// dnsIdle is how long such a connection may be silent.
	dnsIdle = 5 * time.Second
)

// zone is what the name server knows.
type zone struct {
	// lookup returns the addresses of a name in lower case, or why not.
	lookup func(host string) ([]netip.Addr, dnsmessage.RCode)
	// missing is told of a name that is not there and that anything but the
	// name of an address was asked for: also what looks for TXT, for one, may
	// carry data in the name.
	missing func(host string)
}

// answer returns the answer to a query, or nil when it deserves none.
func (z zone) answer(query []byte) []byte {
	var p dnsmessage.Parser
	header, err := p.Start(query)
	if err != nil || header.Response {
		return nil
	}
	reply := dnsmessage.Header{
		ID:                 header.ID,
		Response:           true,
		OpCode:             header.OpCode,
		Authoritative:      true,
		RecursionDesired:   header.RecursionDesired,
		RecursionAvailable: true,
	}
	if header.OpCode != 0 {
		reply.RCode = dnsmessage.RCodeNotImplemented
		return pack(reply, nil, netip.Addr{})
	}
	question, err := p.Question()
	if err != nil {
		reply.RCode = dnsmessage.RCodeFormatError
		return pack(reply, nil, netip.Addr{})
	}
	if _, err := p.Question(); !errors.Is(err, dnsmessage.ErrSectionDone) {
		reply.RCode = dnsmessage.RCodeFormatError
		return pack(reply, nil, netip.Addr{})
	}
	addr := z.resolve(question, &reply)
	return pack(reply, &question, addr)
}

// resolve returns the address to answer with, if any, and sets the code.
func (z zone) resolve(q dnsmessage.Question, reply *dnsmessage.Header) netip.Addr {
	if q.Class != dnsmessage.ClassINET {
		reply.RCode = dnsmessage.RCodeRefused
		return netip.Addr{}
	}
	host := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	var addrs []netip.Addr
	addrs, reply.RCode = z.lookup(host)
	if reply.RCode == dnsmessage.RCodeNameError && q.Type != dnsmessage.TypePTR {
		z.missing(host)
	}
	for _, addr := range addrs {
		if q.Type == dnsmessage.TypeA && addr.Is4() || q.Type == dnsmessage.TypeAAAA && addr.Is6() {
			return addr
		}
	}
	return netip.Addr{} // the name exists and has no such data
}

func pack(header dnsmessage.Header, q *dnsmessage.Question, addr netip.Addr) []byte {
	message := dnsmessage.Message{Header: header}
	if q != nil {
		message.Questions = []dnsmessage.Question{*q}
	}
	if addr.IsValid() {
		var body dnsmessage.ResourceBody = &dnsmessage.AAAAResource{AAAA: addr.As16()}
		if addr.Is4() {
			body = &dnsmessage.AResource{A: addr.As4()}
		}
		message.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: ttl},
			Body:   body,
		}}
	}
	packed, err := message.Pack()
	if err != nil {
		return nil
	}
	return packed
}

// nameServer answers on UDP and TCP at one address.
type nameServer struct {
	zone zone
	udp  net.PacketConn
	tcp  net.Listener
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// startNameServer listens and serves until stop is called.
func startNameServer(ctx context.Context, at netip.AddrPort, z zone) (*nameServer, error) {
	var config net.ListenConfig
	udp, err := config.ListenPacket(ctx, "udp", at.String())
	if err != nil {
		return nil, err
	}
	tcp, err := config.Listen(ctx, "tcp", udp.LocalAddr().String())
	if err != nil {
		_ = udp.Close()
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	s := &nameServer{zone: z, udp: udp, tcp: tcp, stop: stop}
	context.AfterFunc(ctx, func() {
		_ = udp.Close()
		tcp.Close()
	})
	s.wg.Go(s.serveUDP)
	s.wg.Go(func() { s.serveTCP(ctx) })
	return s, nil
}

// close stops the server and waits for it.
func (s *nameServer) close() {
	s.stop()
	s.wg.Wait()
}

func (s *nameServer) serveUDP() {
	query := make([]byte, maxQuery)
	for {
		n, from, err := s.udp.ReadFrom(query)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error of an earlier answer
		}
		if reply := s.zone.answer(query[:n]); reply != nil {
			_, _ = s.udp.WriteTo(reply, from)
		}
	}
}

func (s *nameServer) serveTCP(ctx context.Context) {
	slots := make(chan struct{}, maxDNSConns)
	for {
		conn, ok := accept(ctx, s.tcp)
		if !ok {
			return
		}
		select {
		case slots <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		s.wg.Go(func() {
			defer func() { <-slots }()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			defer conn.Close()
			s.converse(conn)
		})
	}
}

// converse answers queries, each with its length before it, until the client
// has had enough.
func (s *nameServer) converse(conn net.Conn) {
	buf := make([]byte, maxQuery)
	for {
		_ = conn.SetDeadline(time.Now().Add(dnsIdle))
		if _, err := io.ReadFull(conn, buf[:2]); err != nil {
			return
		}
		length := int(binary.BigEndian.Uint16(buf))
		if length > len(buf) {
			return
		}
		if _, err := io.ReadFull(conn, buf[:length]); err != nil {
			return
		}
		reply := s.zone.answer(buf[:length])
		if reply == nil {
			return
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
			return
		}
	}
}
