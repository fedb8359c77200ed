package egress

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

// TestStalledAnswers asks for many long answers over one connection and reads
// none of them: what the broker holds of them is bounded.
func TestStalledAnswers(t *testing.T) {
	const answers, each = 64, 4 << 20
	var sent sync.WaitGroup
	r := newInspectRig(t, Limits{}, func(w http.ResponseWriter, _ *http.Request) {
		defer sent.Done()
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = io.CopyN(w, struct{ io.Reader }{zeros{}}, each)
	}, inspected())
	client := r.client(t, protoHTTP2)
	client.Transport.(*http.Transport).HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 1 << 10}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	sent.Add(answers)
	for range answers {
		res, err := client.Get(base + "/")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close() })
	}
	sent.Wait()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 48<<20 {
		t.Errorf("the heap grew by %d MB", grown>>20)
	}
}

// TestLimitRequests has more requests at once than a container may have, over
// two connections.
func TestLimitRequests(t *testing.T) {
	const limit = 4
	hold, arrived := make(chan struct{}), make(chan struct{}, 2*limit)
	r := newInspectRig(t, Limits{Requests: limit}, func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-hold
	}, inspected())
	first, second := r.client(t, protoHTTP2), r.client(t, protoHTTP2)
	var held sync.WaitGroup
	for range limit {
		held.Go(func() {
			if res, _ := do(t, first, "GET", base+"/", nil); res.StatusCode != 200 {
				t.Errorf("within the limit: answered %d", res.StatusCode)
			}
		})
	}
	for range limit {
		<-arrived
	}
	res, body := do(t, second, "GET", base+"/", nil)
	if res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, `"limit"`) {
		t.Errorf("beyond the limit: answered %d %s", res.StatusCode, body)
	}
	for c := r.request(t); c.Allowed || c.Code != link.Limit; c = r.request(t) {
		if !c.Allowed {
			t.Errorf("recorded %+v", c)
		}
	}
	close(hold)
	held.Wait()
	if res, _ := do(t, second, "GET", base+"/", nil); res.StatusCode != 200 {
		t.Errorf("after the limit: answered %d", res.StatusCode)
	}
}

// TestLimitRequestRate asks for more than may be in a second: the others wait.
func TestLimitRequestRate(t *testing.T) {
	r := newInspectRig(t, Limits{RequestsPerSecond: 20, RequestBurst: 1}, show, inspected("GET /"))
	client := r.client(t)
	began := time.Now()
	for i, path := range []string{"/", "/refused", "/", "/"} { // refused ones count, too
		if res, _ := do(t, client, "GET", base+path, nil); res.StatusCode != 200 && i != 1 {
			t.Errorf("answered %d", res.StatusCode)
		}
	}
	if took := time.Since(began); took < 140*time.Millisecond {
		t.Errorf("four requests took %s", took)
	}
}

// TestDisguisedRequests are made to be taken for others by the host.
func TestDisguisedRequests(t *testing.T) {
	many := strings.Repeat("A: b\r\n", maxHeaders)
	for name, tt := range map[string]struct{ line, header, status string }{
		"method by CGI's name":   {"GET /v1/x", "X_HTTP_Method_Override: DELETE", "403"},
		"path by CGI's name":     {"GET /v1/x", "x_original-url: /admin", "403"},
		"path by proxy":          {"GET /v1/x", "X-Forwarded-Prefix: /admin", "403"},
		"host by proxy":          {"GET /v1/x", "X-Forwarded-Host: evil.test", "421"},
		"host by standard":       {"GET /v1/x", "Forwarded: for=1.2.3.4;host=evil.test", "421"},
		"host by CGI's name":     {"GET /v1/x", "X_FORWARDED_HOST: evil.test", "421"},
		"trace":                  {"trace /v1/x", "A: b", "403"},
		"many headers":           {"GET /v1/x", many + "A: b", "431"},
		"dots and blanks":        {"GET /v1/..%20/admin", "A: b", "403"},
		"dots before a question": {"GET /v1/..%3f/admin", "A: b", "403"},
		"length and chunks":      {"POST /v1/x", "Transfer-Encoding: chunked, identity\r\nContent-Length: 4", "501"},
		"odd chunks":             {"POST /v1/x", "Transfer-Encoding: xchunked\r\nContent-Length: 4", "501"},
		"blank before colon":     {"GET /v1/x", "X-HTTP-Method-Override : DELETE", "400"},
		"line feeds alone":       {"GET /v1/x", "A: b\nX-HTTP-Method-Override: DELETE", "403"},
		"carriage return":        {"GET /v1/x", "A: b\rX-HTTP-Method-Override: DELETE", "400"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newInspectRig(t, Limits{}, func(http.ResponseWriter, *http.Request) { t.Error("it arrived") }, inspected("* /v1/*"))
			conn := r.secure(t)
			fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: %s\r\n%s\r\n\r\n", tt.line, apiHost, tt.header)
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || !strings.HasPrefix(res.Status, tt.status) {
				t.Errorf("answered %+v, %v, want %s", res, err, tt.status)
			}
		})
	}
}

// TestSmuggling sends what is two requests to some and one to others: the host
// gets the one that was looked at.
func TestSmuggling(t *testing.T) {
	const hidden = "GET /admin HTTP/1.1\r\nHost: " + apiHost + "\r\n\r\n"
	r := newInspectRig(t, Limits{}, show, inspected("POST /v1/*"))
	conn := r.secure(t)
	body := "0\r\n\r\n" + hidden
	fmt.Fprintf(conn, "POST /v1/x HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n%s", apiHost, len(body), body)
	answers := bufio.NewReader(conn)
	for i, status := range []int{200, 403} {
		res, err := http.ReadResponse(answers, nil)
		if err != nil {
			if i == 1 && errors.Is(err, io.ErrUnexpectedEOF) {
				return // the connection was ended instead
			}
			t.Fatal(err)
		}
		got, _ := io.ReadAll(res.Body)
		if res.StatusCode != status || status == 200 && !strings.Contains(string(got), "/v1/x") {
			t.Errorf("answer %d is %d %s", i, res.StatusCode, got)
		}
	}
}

// TestHeaderTricks has the headers of one request work on each other.
func TestHeaderTricks(t *testing.T) {
	for _, proto := range []string{protoHTTP1, protoHTTP2} {
		seen := make(chan http.Header, 1)
		r := newInspectRig(t, Limits{}, func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header }, withSecret())
		req, _ := http.NewRequest("GET", base+"/", nil)
		req.Header = http.Header{
			"X-Api-Key":   {"first", testPlaceholder, "a" + testPlaceholder + testPlaceholder},
			"X_api_key":   {testPlaceholder},
			"X-Api-Key2":  {testPlaceholder},
			"X-Split-One": {testPlaceholder[:10]},
			"X-Split-Two": {testPlaceholder[10:]},
		}
		if proto == protoHTTP1 { // which has no such header in HTTP/2
			req.Header["Connection"] = []string{"Accept-Encoding, X-Split-One"}
		}
		res, err := r.client(t, proto).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		got := <-seen
		if fmt.Sprint(got["X-Api-Key"]) != fmt.Sprint([]string{"first", testValue, "a" + testValue + testValue}) ||
			got.Get("X_api_key") != testPlaceholder || got.Get("X-Api-Key2") != testPlaceholder || got.Get("Accept-Encoding") != "identity" {
			t.Errorf("%s: the host saw %v", proto, got)
		}
	}
}

// TestEchoes has the host send a value back by every way but the plain body.
func TestEchoes(t *testing.T) {
	const value = " k+y/with space&more "
	rule := inspected()
	rule.Secrets = []Secret{{Name: "QUERY", Placeholder: testPlaceholder, Value: value, Query: "key"}}
	clean := strings.TrimSpace(value)
	forms := []string{clean, url.QueryEscape(clean), strings.ToLower(url.QueryEscape(clean)), url.PathEscape(clean), strings.ReplaceAll(url.QueryEscape(clean), "+", "%20")}
	for _, proto := range []string{protoHTTP1, protoHTTP2} {
		for name, handler := range map[string]http.HandlerFunc{
			"early hints": func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Link"] = forms
				w.WriteHeader(http.StatusEarlyHints)
			},
			"redirect": func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", "/login?next="+r.URL.String())
				w.WriteHeader(http.StatusFound)
			},
			"refused encoding": func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Encoding", "x-none")
				fmt.Fprint(w, forms)
			},
			"events": func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				for _, form := range forms {
					fmt.Fprint(w, "data: ", form[:3])
					_ = http.NewResponseController(w).Flush()
					fmt.Fprint(w, form[3:], "\n\n")
				}
			},
			"trailer of an encoded body": func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Encoding", "gzip")
				w.Header().Set("Trailer", "X-T")
				_ = http.NewResponseController(w).Flush()
				fmt.Fprint(w, "x")
				w.Header()["X-T"] = forms
			},
			"trailer of no body": func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Trailer", "X-T")
				w.Header().Set("Content-Length", "0")
				w.WriteHeader(http.StatusOK)
				w.Header()["X-T"] = forms
			},
		} {
			t.Run(proto+"/"+name, func(t *testing.T) {
				r := newInspectRig(t, Limits{}, handler, rule)
				req, _ := http.NewRequest("GET", base+"/?key="+testPlaceholder, nil)
				early := ""
				req = req.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
					Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
						early += fmt.Sprint(code, h)
						return nil
					},
				}))
				res, err := r.client(t, proto).Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				body, err := io.ReadAll(res.Body)
				if err != nil {
					t.Fatal(err)
				}
				all := fmt.Sprint(early, res.Header, string(body), res.Trailer)
				if name != "trailer of no body" && !strings.Contains(all, testPlaceholder) {
					t.Errorf("the container saw no placeholder in %s", all)
				}
				for _, form := range forms {
					if strings.Contains(all, form) {
						t.Errorf("the container saw %q in %s", form, all)
					}
				}
				if c := r.request(t); len(c.Secrets) != 1 {
					t.Errorf("recorded %+v", c)
				}
			})
		}
	}
}

// frames opens a connection in the container, for frames of HTTP/2 by hand.
func (ir *inspectRig) frames(t *testing.T) (*http2.Framer, net.Conn) {
	t.Helper()
	_, conn, err := ir.connect(t, apiHost, 443)
	if err != nil {
		t.Fatal(err)
	}
	secure := tls.Client(conn, &tls.Config{RootCAs: ir.trusted, ServerName: apiHost, NextProtos: []string{protoHTTP2}})
	framer := http2.NewFramer(secure, secure)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, err := io.WriteString(secure, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return framer, conn
}

// headBlock encodes headers for a frame.
func headBlock(t *testing.T, fields ...string) []byte {
	t.Helper()
	var head bytes.Buffer
	encoder := hpack.NewEncoder(&head)
	for i := 0; i < len(fields); i += 2 {
		if err := encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1], Sensitive: true}); err != nil {
			t.Fatal(err)
		}
	}
	return head.Bytes()
}

// TestOddFrames sends heads by HTTP/2 that no client library writes: refused,
// or taken for what they are.
func TestOddFrames(t *testing.T) {
	good := []string{":method", "GET", ":scheme", "https", ":authority", apiHost, ":path", "/v1/x"}
	with := func(more ...string) []string { return append(slices.Clone(good), more...) }
	for name, tt := range map[string]struct {
		fields []string
		status string // empty: the stream is reset
	}{
		"as it should be":     {good, "200"},
		"host beside it":      {with("host", "evil.test"), "200"},
		"host instead":        {[]string{":method", "GET", ":scheme", "https", ":path", "/v1/x", "host", "evil.test"}, "421"},
		"another authority":   {[]string{":method", "GET", ":scheme", "https", ":authority", "evil.test", ":path", "/v1/x", "host", apiHost}, "421"},
		"user in authority":   {[]string{":method", "GET", ":scheme", "https", ":authority", "a@" + apiHost, ":path", "/v1/x"}, ""},
		"two paths":           {with(":path", "/admin"), ""},
		"capitals":            {with("X-Key", "x"), ""},
		"connection":          {with("connection", "x-api-key"), ""},
		"chunked":             {with("transfer-encoding", "chunked"), ""},
		"another protocol":    {[]string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", apiHost, ":path", "/v1/x"}, ""},
		"line end in a value": {with("x-a", "b\r\nx-http-method-override: DELETE"), ""},
		"blank in the path":   {[]string{":method", "GET", ":scheme", "https", ":authority", apiHost, ":path", "/v1/x HTTP/1.1"}, "403"},
		"path without slash":  {[]string{":method", "GET", ":scheme", "https", ":authority", apiHost, ":path", "v1/x"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newInspectRig(t, Limits{}, func(w http.ResponseWriter, r *http.Request) {
				if r.Host != apiHost || r.RequestURI != "/v1/x" || len(r.Header["Host"]) > 0 {
					t.Errorf("the host saw %s %s %v", r.Host, r.RequestURI, r.Header)
				}
			}, inspected("* /v1/*"))
			framer, _ := r.frames(t)
			if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headBlock(t, tt.fields...), EndStream: true, EndHeaders: true}); err != nil {
				t.Fatal(err)
			}
			for {
				frame, err := framer.ReadFrame()
				got := ""
				switch f := frame.(type) {
				case *http2.MetaHeadersFrame:
					got = f.PseudoValue("status")
				case *http2.RSTStreamFrame, *http2.GoAwayFrame:
				default:
					if err == nil {
						continue
					}
				}
				if got != tt.status && (tt.status != "" || got != "400") {
					t.Errorf("answered %q, %v, want %q", got, err, tt.status)
				}
				return
			}
		})
	}
}

// TestHugeFrame announces a frame of HTTP/2 that is larger than may be held.
func TestHugeFrame(t *testing.T) {
	r := newInspectRig(t, Limits{}, show, inspected())
	framer, _ := r.frames(t)
	go func() { _ = framer.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, maxFrame+1)) }()
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if away, ok := frame.(*http2.GoAwayFrame); ok {
			if away.ErrCode != http2.ErrCodeFrameSize {
				t.Errorf("ended by %v", away)
			}
			return
		}
	}
}

// floodFrames sends frames of HTTP/2 for a while, or until the broker ends the
// connection.
func floodFrames(t *testing.T, r *inspectRig, write func(f *http2.Framer, i uint32) error) {
	t.Helper()
	framer, conn := r.frames(t)
	end := time.Now().Add(500 * time.Millisecond)
	_ = conn.SetDeadline(end)
	for i := uint32(0); time.Now().Before(end) && write(framer, i) == nil; i++ {
	}
}

// TestFloods of what costs the container nothing ask the host and the audit log
// no more often than a container may, keep nobody else waiting, and leave
// nothing behind.
func TestFloods(t *testing.T) {
	block := headBlock(t, ":method", "GET", ":scheme", "https", ":authority", apiHost, ":path", "/")
	filler := []byte{0x00, 0x01, 'a', 0x01, 'b'} // a literal header, not indexed
	for name, write := range map[string]func(f *http2.Framer, i uint32) error{
		"rapid reset": func(f *http2.Framer, i uint32) error {
			err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: block, EndStream: true, EndHeaders: true})
			if err == nil {
				err = f.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
			}
			return err
		},
		"settings": func(f *http2.Framer, _ uint32) error { return f.WriteSettings() },
		"continuation": func(f *http2.Framer, i uint32) error {
			if i == 0 {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndStream: true})
			}
			return f.WriteContinuation(1, false, bytes.Repeat(filler, 1000))
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := runtime.NumGoroutine()
			const most = 50
			r := newInspectRig(t, Limits{RequestsPerSecond: 1, RequestBurst: most}, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, inspected())
			end := r.discardRecords()
			floodFrames(t, r, write)
			if _, _, err := r.connect(t, apiHost, 443); err != nil {
				t.Errorf("another connection: %v", err)
			}
			if n := r.broker.Stats().Requests; n > most+2 {
				t.Errorf("%d requests were sent", n)
			}
			end()
			r.upstream.Close()
			for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before+2; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%d goroutines are left, of %d", runtime.NumGoroutine(), before)
				}
			}
		})
	}
}
