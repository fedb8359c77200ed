// Package link is what the two halves of egress share: the line protocol that
// the forwarder inside a container speaks to the broker on the host, and the
// copying of bytes between two streams.
//
// A client opens the egress socket and sends one line. "CONNECT host:port" is
// answered by "OK", after which the connection is the stream, with half-close
// in both directions, or by "DENIED code message". "WATCH" is answered by one
// JSON line with the grants in force, and by another after every change.
// "REPORT host" tells that a name was looked up that is not granted; it is not
// answered.
//
// The package promises to bound what it reads whatever the peer sends, and to
// stay small: it is linked into the container's first process.
package link

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

const (
	// MaxLine bounds a request and its answer, in bytes with the line end. A
	// host name of 253 characters fits with room.
	MaxLine = 512
	// MaxGrants bounds the grants of one policy.
	MaxGrants = 1024
	// maxWatchLine bounds the line that holds MaxGrants grants, in bytes.
	maxWatchLine = MaxGrants * (253 + 64)
	// maxHost is the longest host name of the DNS, in characters.
	maxHost = 253
)

// Code says why a connection was denied or cut off. Codes are stable.
type Code string

// The codes that a broker answers and records.
const (
	NotGranted     Code = "not_granted"     // no rule for this host and port
	AddressRefused Code = "address_refused" // the name has no address that may be reached
	SNIMismatch    Code = "sni_mismatch"    // TLS for another, a hidden or no server name
	TLSRequired    Code = "tls_required"    // no TLS where the rule asks for it
	ResolveFailed  Code = "resolve_failed"
	DialFailed     Code = "dial_failed"
	Limit          Code = "limit" // a cap on connections, rate, bytes or time
	BadRequest     Code = "bad_request"
	Audit          Code = "audit"           // the connection or the request cannot be recorded
	RequestRefused Code = "request_refused" // an inspected request that no rule allows, or for another host
	Certificate    Code = "certificate"     // the host's certificate is not good, or it cannot be inspected
)

// Denied is the broker's refusal.
type Denied struct {
	Code    Code
	Message string
}

// Error says code and message.
func (d *Denied) Error() string {
	return fmt.Sprintf("denied by the egress broker: %s: %s", d.Code, d.Message)
}

// Unwrap returns the errdefs class of a refusal.
func (d *Denied) Unwrap() error { return errdefs.ErrPermissionDenied }

// Grant is one destination that may be asked for.
type Grant struct {
	Host string `json:"host"` // lower case; "*.example.com" is every name with one more label
	Port uint16 `json:"port"`
}

// Grants is a policy as a watcher is told it.
type Grants struct {
	Grants []Grant `json:"grants"`
}

// String returns "host:port".
func (g Grant) String() string {
	return net.JoinHostPort(g.Host, strconv.Itoa(int(g.Port)))
}

// Wildcard returns the only wildcard that covers a name: its first label
// becomes "*". A name of one label has none.
func Wildcard(host string) (wildcard string, ok bool) {
	label, rest, ok := strings.Cut(host, ".")
	if !ok || label == "" || label == "*" || rest == "" {
		return "", false
	}
	return "*." + rest, true
}

// ParseGrant reads "host:port" like ParseTarget, and allows a wildcard.
func ParseGrant(text string) (Grant, error) {
	rest, wild := strings.CutPrefix(text, "*.")
	g, err := ParseTarget(rest)
	switch {
	case err != nil:
		return Grant{}, err
	case wild && !ValidName("x."+g.Host):
		return Grant{}, fmt.Errorf("cannot read %q as a wildcard: %w", text, errdefs.ErrInvalidArgument)
	case wild:
		g.Host = "*." + g.Host
	}
	return g, nil
}

// ParseTarget reads "host:port" and returns it with the host in lower case.
// The host is a name of letters, digits, "-", "_" and ".", or an address;
// whether it means anything is not checked here.
func ParseTarget(text string) (Grant, error) {
	host, portText, err := net.SplitHostPort(text)
	if err != nil {
		return Grant{}, fmt.Errorf("cannot read %q as host:port: %w", text, errdefs.ErrInvalidArgument)
	}
	port, err := ParsePort(portText)
	if err != nil {
		return Grant{}, err
	}
	host = strings.ToLower(host)
	if !ValidHost(host) {
		return Grant{}, fmt.Errorf("cannot read %q as a host name: %w", host, errdefs.ErrInvalidArgument)
	}
	return Grant{Host: host, Port: port}, nil
}

// ParsePort reads a decimal port, 1 to 65535, without sign or leading zero.
func ParsePort(text string) (uint16, error) {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 || text[0] == '0' || text[0] == '+' {
		return 0, fmt.Errorf("cannot read %q as a port from 1 to 65535: %w", text, errdefs.ErrInvalidArgument)
	}
	return uint16(port), nil
}

// ValidHost says that a host is a ValidName or an IPv6 address without a zone.
func ValidHost(host string) bool {
	if ValidName(host) {
		return true
	}
	addr, err := netip.ParseAddr(host) // an IPv6 literal
	return err == nil && addr.Zone() == ""
}

// ValidName says that a name is of lower-case letters, digits, "-", "_" and "."
// and of the length of a name, which makes it fit for the protocol.
func ValidName(host string) bool {
	if host == "" || len(host) > maxHost {
		return false
	}
	for _, c := range []byte(host) {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

// Request is a client's first line.
type Request struct {
	Watch  bool
	Report string // the name of a REPORT
	Target Grant  // of a CONNECT
}

// String returns the request as its line, with the line end.
func (r Request) String() string {
	switch {
	case r.Watch:
		return "WATCH\n"
	case r.Report != "":
		return "REPORT " + r.Report + "\n"
	}
	return "CONNECT " + r.Target.String() + "\n"
}

// ReadRequest reads a client's first line.
func ReadRequest(r *bufio.Reader) (Request, error) {
	line, err := readLine(r)
	if err != nil {
		return Request{}, err
	}
	if line == "WATCH" {
		return Request{Watch: true}, nil
	}
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "CONNECT":
		target, err := ParseTarget(rest)
		return Request{Target: target}, err
	case "REPORT":
		host := strings.ToLower(rest)
		if !ValidName(host) {
			return Request{}, fmt.Errorf("cannot read %q as a host name: %w", rest, errdefs.ErrInvalidArgument)
		}
		return Request{Report: host}, nil
	}
	return Request{}, fmt.Errorf("cannot read the request: neither CONNECT nor WATCH nor REPORT: %w", errdefs.ErrInvalidArgument)
}

// WriteOK lets the client of a CONNECT go ahead.
func WriteOK(w io.Writer) error {
	_, err := io.WriteString(w, "OK\n")
	return err
}

// WriteDenied refuses a request. The message must be free of line ends.
func WriteDenied(w io.Writer, d Denied) error {
	_, err := fmt.Fprintf(w, "DENIED %s %s\n", d.Code, d.Message)
	return err
}

// ReadAnswer reads the answer to a CONNECT. A refusal is a *Denied.
func ReadAnswer(r *bufio.Reader) error {
	line, err := readLine(r)
	if err != nil {
		return err
	}
	if line == "OK" {
		return nil
	}
	rest, ok := strings.CutPrefix(line, "DENIED ")
	if !ok {
		return fmt.Errorf("cannot read the broker's answer %q: %w", line, errdefs.ErrUnknown)
	}
	code, message, _ := strings.Cut(rest, " ")
	return &Denied{Code: Code(code), Message: message}
}

// NewReader returns a reader that fits the protocol's lines.
func NewReader(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, MaxLine) }

func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", fmt.Errorf("cannot read a line of more than %d bytes: %w", r.Size(), errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return "", fmt.Errorf("cannot read a line: %w", err)
	}
	return string(line[:len(line)-1]), nil
}

// WriteGrants tells a watcher the policy.
func WriteGrants(w io.Writer, grants []Grant) error {
	if grants == nil {
		grants = []Grant{}
	}
	line, err := json.Marshal(Grants{Grants: grants})
	if err != nil {
		return fmt.Errorf("cannot encode the grants: %w", err)
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// GrantsReader reads what a watcher is told.
type GrantsReader struct{ lines *bufio.Scanner }

// NewGrantsReader reads policies from r.
func NewGrantsReader(r io.Reader) *GrantsReader {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxWatchLine)
	return &GrantsReader{lines: lines}
}

// Read returns the next policy, or io.EOF. Grants that cannot be read, and
// those beyond MaxGrants, make the whole policy an error.
func (r *GrantsReader) Read() ([]Grant, error) {
	if !r.lines.Scan() {
		if err := r.lines.Err(); err != nil {
			return nil, fmt.Errorf("cannot read the policy: %w", err)
		}
		return nil, io.EOF
	}
	var policy Grants
	if err := json.Unmarshal(r.lines.Bytes(), &policy); err != nil {
		return nil, fmt.Errorf("cannot decode the policy: %w (%w)", err, errdefs.ErrInvalidArgument)
	}
	if len(policy.Grants) > MaxGrants {
		return nil, fmt.Errorf("cannot take %d grants, more than %d: %w", len(policy.Grants), MaxGrants, errdefs.ErrInvalidArgument)
	}
	for i, g := range policy.Grants {
		clean, err := ParseGrant(g.String())
		if err != nil {
			return nil, err
		}
		policy.Grants[i] = clean
	}
	return policy.Grants, nil
}
