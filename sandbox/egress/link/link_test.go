package link_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

func TestParseGrant(t *testing.T) {
	tests := []struct {
		text string
		want link.Grant
		ok   bool
	}{
		{"api.example.test:443", link.Grant{Host: "api.example.test", Port: 443}, true},
		{"API.Example.Test:65535", link.Grant{Host: "api.example.test", Port: 65535}, true},
		{"10.0.0.1:80", link.Grant{Host: "10.0.0.1", Port: 80}, true},
		{"[::1]:80", link.Grant{Host: "::1", Port: 80}, true},
		{"[fe80::1%eth0]:80", link.Grant{}, false},
		{"*.Example.Test:443", link.Grant{Host: "*.example.test", Port: 443}, true},
		{"*:443", link.Grant{}, false},
		{"*.:443", link.Grant{}, false},
		{"**.test:443", link.Grant{}, false},
		{"a.*.test:443", link.Grant{}, false},
		{"*.*.test:443", link.Grant{}, false},
		{"*.[::1]:443", link.Grant{}, false},
		{"*." + strings.Repeat("a", 252) + ":443", link.Grant{}, false},
		{"api.example.test", link.Grant{}, false},
		{"api.example.test:", link.Grant{}, false},
		{"api.example.test:0", link.Grant{}, false},
		{"api.example.test:65536", link.Grant{}, false},
		{"api.example.test:+443", link.Grant{}, false},
		{"api.example.test:0443", link.Grant{}, false},
		{"api.example.test:-1", link.Grant{}, false},
		{":443", link.Grant{}, false},
		{"a b:443", link.Grant{}, false},
		{"a\x00b:443", link.Grant{}, false},
		{"bücher.test:443", link.Grant{}, false},
		{"a:b:443", link.Grant{}, false},
		{strings.Repeat("a", 254) + ":443", link.Grant{}, false},
		{"", link.Grant{}, false},
	}
	for _, tt := range tests {
		got, err := link.ParseGrant(tt.text)
		if (err == nil) != tt.ok || got != tt.want {
			t.Errorf("ParseGrant(%q) = %v, %v, want %v, ok %v", tt.text, got, err, tt.want, tt.ok)
		}
		if err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("ParseGrant(%q): %v is not InvalidArgument", tt.text, err)
		}
	}
}

func TestReadRequest(t *testing.T) {
	tests := []struct {
		line string
		want link.Request
		ok   bool
	}{
		{"WATCH\n", link.Request{Watch: true}, true},
		{"CONNECT h.test:1\n", link.Request{Target: link.Grant{Host: "h.test", Port: 1}}, true},
		{"CONNECT h.test:1\r\n", link.Request{}, false},
		{"connect h.test:1\n", link.Request{}, false},
		{"CONNECT *.h.test:1\n", link.Request{}, false},
		{"REPORT Evil.test\n", link.Request{Report: "evil.test"}, true},
		{"REPORT _x-1.evil.test\n", link.Request{Report: "_x-1.evil.test"}, true},
		{"REPORT\n", link.Request{}, false},
		{"REPORT \n", link.Request{}, false},
		{"REPORT a b\n", link.Request{}, false},
		{"REPORT evil.test:443\n", link.Request{}, false},
		{"REPORT ::1\n", link.Request{}, false},
		{"REPORT *.evil.test\n", link.Request{}, false},
		{"REPORT evil\x1b[2J.test\n", link.Request{}, false},
		{"REPORT evil.test\r\n", link.Request{}, false},
		{"REPORT " + strings.Repeat("a", 254) + "\n", link.Request{}, false},
		{"report evil.test\n", link.Request{}, false},
		{"GET / HTTP/1.1\n", link.Request{}, false},
		{"CONNECT h.test:1", link.Request{}, false},
		{"CONNECT " + strings.Repeat("a", link.MaxLine) + ":1\n", link.Request{}, false},
		{"\n", link.Request{}, false},
		{"", link.Request{}, false},
	}
	for _, tt := range tests {
		got, err := link.ReadRequest(link.NewReader(strings.NewReader(tt.line)))
		if (err == nil) != tt.ok || got != tt.want {
			t.Errorf("ReadRequest(%.40q) = %v, %v, want %v, ok %v", tt.line, got, err, tt.want, tt.ok)
		}
	}
}

func TestAnswers(t *testing.T) {
	var wire bytes.Buffer
	if err := link.WriteOK(&wire); err != nil {
		t.Fatal(err)
	}
	if err := link.WriteDenied(&wire, link.Denied{Code: link.NotGranted, Message: "no such grant"}); err != nil {
		t.Fatal(err)
	}
	wire.WriteString("MAYBE\n")
	r := link.NewReader(&wire)
	if err := link.ReadAnswer(r); err != nil {
		t.Errorf("OK: %v", err)
	}
	var denied *link.Denied
	err := link.ReadAnswer(r)
	if !errors.As(err, &denied) || *denied != (link.Denied{Code: link.NotGranted, Message: "no such grant"}) {
		t.Errorf("DENIED: %v", err)
	}
	if !errdefs.IsPermissionDenied(err) {
		t.Errorf("%v is not PermissionDenied", err)
	}
	if err := link.ReadAnswer(r); err == nil {
		t.Error("an unknown answer was taken")
	}
}

func TestGrants(t *testing.T) {
	var wire bytes.Buffer
	want := []link.Grant{{Host: "a.test", Port: 443}, {Host: "::1", Port: 80}, {Host: "*.b.test", Port: 443}}
	for _, grants := range [][]link.Grant{nil, want} {
		if err := link.WriteGrants(&wire, grants); err != nil {
			t.Fatal(err)
		}
	}
	if first, _, _ := strings.Cut(wire.String(), "\n"); first != `{"grants":[]}` {
		t.Errorf("no grants are %s", first)
	}
	r := link.NewGrantsReader(&wire)
	if got, err := r.Read(); err != nil || len(got) != 0 {
		t.Errorf("first = %v, %v", got, err)
	}
	if got, err := r.Read(); err != nil || !cmp.Equal(got, want) {
		t.Errorf("second = %v, %v, want %v", got, err, want)
	}
	if _, err := r.Read(); !errors.Is(err, io.EOF) {
		t.Errorf("third = %v, want EOF", err)
	}
}

func TestGrantsRefused(t *testing.T) {
	many := `{"grants":[` + strings.Repeat(`{"host":"a","port":1},`, link.MaxGrants) + `{"host":"a","port":1}]}`
	for name, line := range map[string]string{
		"no JSON":   "grants\n",
		"bad port":  `{"grants":[{"host":"a.test","port":0}]}` + "\n",
		"big port":  `{"grants":[{"host":"a.test","port":70000}]}` + "\n",
		"bad host":  `{"grants":[{"host":"a test","port":1}]}` + "\n",
		"too many":  many + "\n",
		"too long":  strings.Repeat("x", 1<<20) + "\n",
		"truncated": `{"grants":[`,
	} {
		if got, err := link.NewGrantsReader(strings.NewReader(line)).Read(); err == nil {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestWildcard(t *testing.T) {
	for host, want := range map[string]string{
		"a.example.test": "*.example.test", "a.b": "*.b", "a.b.": "*.b.", "a..b": "*..b",
		"a": "", "": "", ".b": "", "a.": "", "*.b": "",
	} {
		if got, ok := link.Wildcard(host); got != want || ok != (want != "") {
			t.Errorf("Wildcard(%q) = %q, %v, want %q", host, got, ok, want)
		}
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add([]byte("WATCH\n"))
	f.Add([]byte("CONNECT api.example.test:443\nrest"))
	f.Add([]byte("CONNECT [::1]:443\n"))
	f.Add([]byte("REPORT evil.test\n"))
	f.Add([]byte("REPORT EVIL.test:443\nREPORT b"))
	f.Fuzz(func(t *testing.T, data []byte) {
		req, err := link.ReadRequest(link.NewReader(bytes.NewReader(data)))
		if err != nil {
			return
		}
		again, err := link.ReadRequest(bufio.NewReader(strings.NewReader(req.String())))
		if err != nil || again != req {
			t.Errorf("%q reads as %v, which reads as %v, %v", data, req, again, err)
		}
		if req.Report != "" && (!link.ValidName(req.Report) || req.Watch || req.Target != link.Grant{}) {
			t.Errorf("%q reads as %+v", data, req)
		}
	})
}

func FuzzGrantsReader(f *testing.F) {
	f.Add([]byte(`{"grants":[{"host":"a.test","port":443}]}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		grants, err := link.NewGrantsReader(bytes.NewReader(data)).Read()
		if err == nil && len(grants) > link.MaxGrants {
			t.Errorf("%d grants", len(grants))
		}
	})
}
