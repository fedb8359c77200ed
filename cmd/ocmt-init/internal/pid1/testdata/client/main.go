// Command client tries connections from inside a container and prints how
// each went. Every argument is host:port; "await=host:port" tries again until
// a line comes back, and "status" prints the memory of process 1 instead.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

func main() {
	for _, target := range os.Args[1:] {
		if target == "status" {
			fmt.Println(status())
			continue
		}
		if waited, ok := strings.CutPrefix(target, "await="); ok {
			fmt.Printf("%s: %s\n", target, await(waited))
			continue
		}
		fmt.Printf("%s: %s\n", target, try(target))
	}
}

// await tries until it works, for some seconds.
func await(target string) string {
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		result := try(target)
		if result == "echo" {
			return result
		}
		select {
		case <-tick.C:
		case <-deadline:
			return result
		}
	}
}

// try says "echo" when a line came back, and otherwise the class of failure.
func try(target string) string {
	// Only what /etc/resolv.conf of a plugin's container says is asked.
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, "127.0.0.1:53")
	}}
	conn, err := (&net.Dialer{Timeout: 5 * time.Second, Resolver: resolver}).Dial("tcp", target)
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return "no such name"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ENETUNREACH):
		return "unreachable"
	case err != nil:
		return err.Error()
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(conn, "ping"); err != nil {
		return err.Error()
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err.Error()
	}
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != "ping" {
		return fmt.Sprintf("got %q, %v", got, err)
	}
	return "echo"
}

func status() string {
	data, err := os.ReadFile("/proc/1/status")
	if err != nil {
		return err.Error()
	}
	var kept []string
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "VmRSS") || strings.HasPrefix(line, "RssAnon") {
			kept = append(kept, strings.Join(strings.Fields(line), " "))
		}
	}
	return strings.Join(kept, ", ")
}
