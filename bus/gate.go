package bus

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/ocmt/ocmt/bus/subject"
)

// grant is what a connection is let in as.
type grant struct {
	name        string // for the server's log
	account     *natsserver.Account
	permissions subject.Permissions
}

// gate decides who may use the server: connections whose id was admitted, once,
// as what they were admitted. What a CONNECT line claims plays no part.
type gate struct {
	mu     sync.Mutex
	grants map[uint64]grant // by the server's client id, until CONNECT
}

func (g *gate) admit(id uint64, as grant) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.grants[id] = as
}

// take returns the grant of id and uses it up.
func (g *gate) take(id uint64) (grant, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	as, ok := g.grants[id]
	delete(g.grants, id)
	return as, ok
}

// Check implements the server's authentication.
func (g *gate) Check(c natsserver.ClientAuthentication) bool {
	as, ok := g.take(c.GetID())
	if !ok || c.Kind() != natsserver.CLIENT {
		return false
	}
	c.RegisterUser(&natsserver.User{
		Username: as.name,
		Account:  as.account,
		Permissions: &natsserver.Permissions{
			Publish:   &natsserver.SubjectPermission{Allow: as.permissions.Publish},
			Subscribe: &natsserver.SubjectPermission{Allow: as.permissions.Subscribe},
		},
	})
	return true
}

// link is a connection to the server that was admitted. What the server said
// first is still to be read from it.
type link struct {
	net.Conn
	server *Server
	id     uint64
	info   []byte // not yet read
}

// open connects to the server and has the connection admitted.
func (s *Server) open(as grant) (*link, error) {
	conn, err := s.nats.InProcessConn()
	if err != nil {
		return nil, fmt.Errorf("cannot connect to the bus server: %w: %w", err, errdefs.ErrUnavailable)
	}
	info, id, err := readInfo(conn)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("cannot connect to the bus server: %w: %w", err, errdefs.ErrUnavailable)
	}
	s.gate.admit(id, as)
	return &link{Conn: conn, server: s, id: id, info: info}, nil
}

// readInfo reads the server's first line, which holds the connection's id.
func readInfo(conn net.Conn) (line []byte, id uint64, err error) {
	if err := conn.SetReadDeadline(time.Now().Add(infoTimeout)); err != nil {
		return nil, 0, err
	}
	buf := make([]byte, maxControlLine)
	n := 0
	for bytes.IndexByte(buf[:n], '\n') < 0 {
		if n == len(buf) {
			return nil, 0, fmt.Errorf("its first line is longer than %d bytes", len(buf))
		}
		m, err := conn.Read(buf[n:])
		if err != nil {
			return nil, 0, err
		}
		n += m
	}
	text, ok := bytes.CutPrefix(buf[:bytes.IndexByte(buf[:n], '\n')], []byte("INFO "))
	var info struct {
		ClientID uint64 `json:"client_id"`
	}
	if !ok || json.Unmarshal(text, &info) != nil || info.ClientID == 0 {
		return nil, 0, fmt.Errorf("its first line is no INFO with a client id")
	}
	return bytes.Clone(buf[:n]), info.ClientID, conn.SetReadDeadline(time.Time{})
}

// Read returns the server's first line, then what follows.
func (l *link) Read(p []byte) (int, error) {
	if len(l.info) > 0 {
		n := copy(p, l.info)
		l.info = l.info[n:]
		return n, nil
	}
	return l.Conn.Read(p)
}

// Close ends the connection at the server, too, which otherwise happens only
// once the server reads.
func (l *link) Close() error {
	l.server.gate.take(l.id)
	err := l.Conn.Close()
	_ = l.server.nats.DisconnectClientByID(l.id) // it may be gone already
	return err
}
