package hostile

import (
	"bufio"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
)

// pages answers a request in the world.
func pages(w http.ResponseWriter, r *http.Request, body string) {
	told := strings.Join([]string{r.Method, r.Header.Get("X-Api-Key"), r.Header.Get("Authorization"), r.URL.RawQuery, body}, "|")
	switch page := r.URL.Path; {
	case strings.HasPrefix(page, "/redirect"):
		http.Redirect(w, r, r.URL.Query().Get("to"), http.StatusTemporaryRedirect)
	case strings.HasPrefix(page, "/close"):
		w.Header().Set("Connection", "close")
		fmt.Fprintf(w, "reached %s", localAddr(r))
	case strings.HasPrefix(page, "/hold"):
		fmt.Fprintf(w, "reached %s", localAddr(r))
		flush(w)
		<-r.Context().Done()
	case strings.HasPrefix(page, "/socket"):
		webSocket(w, r)
	case strings.HasPrefix(page, "/echo"):
		tell(w, told)
	default:
		fmt.Fprintf(w, "reached %s", localAddr(r))
	}
}

func flush(w http.ResponseWriter) {
	_ = http.NewResponseController(w).Flush()
}

// tell says a text early, in a header, in the body byte by byte, in an error
// and in a trailer.
func tell(w http.ResponseWriter, text string) {
	key := strings.Split(text, "|")[1]
	w.Header().Set("Link", "<"+key+">")
	w.WriteHeader(http.StatusEarlyHints)
	w.Header().Set("Trailer", "X-Last")
	w.Header().Set("X-Echo", text)
	w.Header().Set("Set-Cookie", "key="+key)
	w.WriteHeader(http.StatusInternalServerError)
	for _, piece := range strings.SplitAfter(text, "") {
		_, _ = io.WriteString(w, piece)
		flush(w)
	}
	w.Header().Set("X-Last", text)
}

// webSocket sends back what comes, from the first frame on, frames or not.
func webSocket(w http.ResponseWriter, r *http.Request) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	sum := sha1.Sum([]byte(r.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455, section 4.2.2
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	_, _ = io.Copy(conn, rw)
}

// strictly reads the requests of a connection as the most literal server would,
// and notes their heads and what is wrong with them.
func (in *internet) strictly(conn net.Conn) {
	defer conn.Close()
	secure := tls.Server(conn, &tls.Config{GetCertificate: in.certificate, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12})
	r := bufio.NewReader(secure)
	for {
		head, err := readHead(r)
		if err != nil {
			return
		}
		length, wrong := framing(head)
		in.mu.Lock()
		in.heads = append(in.heads, strictHead{secure.ConnectionState().ServerName, head, wrong})
		in.mu.Unlock()
		if wrong != "" || !skipBody(r, length) {
			return
		}
		if _, err := io.WriteString(secure, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nstrict\n"); err != nil {
			return
		}
	}
}

// strictHead is the head of a request as it came.
type strictHead struct {
	name  string // the server name of the connection
	lines []string
	wrong string
}

// strictHeads returns what came by TLS for a name.
func (in *internet) strictHeads(name string) []strictHead {
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(in.heads), func(h strictHead) bool { return h.name != name })
}

// readHead reads to the first empty line, by line feeds alone.
func readHead(r *bufio.Reader) (lines []string, err error) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, err
		}
		if line == "\r\n" || line == "\n" {
			return lines, nil
		}
		lines = append(lines, line)
	}
}

const chunked = -1

// framing says how long the body is, and what can be read in two ways.
func framing(head []string) (length int, wrong string) {
	if len(head) == 0 || strings.Count(head[0], " ") != 2 || !strings.HasSuffix(head[0], " HTTP/1.1\r\n") {
		return 0, fmt.Sprintf("the request line in %q", head)
	}
	seen := map[string]int{}
	for _, line := range head[1:] {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\r\n"), ":")
		if !ok || !strings.HasSuffix(line, "\r\n") || strings.ContainsAny(name, " \t\r\x00") || strings.ContainsAny(value, "\r\n\x00") {
			return 0, fmt.Sprintf("the line %q", line)
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		seen[name]++
		var err error
		switch value = strings.TrimSpace(value); name {
		case "Content-Length":
			length, err = strconv.Atoi(value)
		case "Transfer-Encoding":
			length = chunked
			if value != "chunked" {
				return 0, "the transfer encoding " + value
			}
		}
		if err != nil {
			return 0, "the length " + value
		}
	}
	if seen["Host"] != 1 || seen["Content-Length"]+seen["Transfer-Encoding"] > 1 {
		return 0, fmt.Sprintf("the headers %v", seen)
	}
	return length, ""
}

func skipBody(r *bufio.Reader, length int) bool {
	if length != chunked {
		_, err := r.Discard(length)
		return err == nil
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return false
		}
		size, err := strconv.ParseUint(strings.TrimSuffix(line, "\r\n"), 16, 31)
		if err != nil {
			return false
		}
		if size == 0 {
			_, err := readHead(r) // the trailer
			return err == nil
		}
		if _, err := r.Discard(int(size) + 2); err != nil {
			return false
		}
	}
}
