package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
)

func (a *app) networkLogCommand() *cobra.Command {
	var r reads
	var q v1.ConnectionQuery
	var since string
	var follow bool
	cmd := &cobra.Command{
		Use:   "log [PLUGIN]",
		Short: "Show what plugins connected to, and what they were denied",
		Long: `Show what plugins connected to, and what they were denied: an entry when a connection
is allowed, for each request of one that is inspected, and when it has ended; and one
for what was denied, with the reason and the command that would grant it.`,
		Example: `  ocmt network log
  ocmt network log my-plugin --denied --since 1h
  ocmt network log -A -f --json`,
		Args: atMost("PLUGIN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if q.Since, err = parseSince(since, time.Now()); err != nil {
				return usage(cmd, "--since %q is neither a duration like 10m nor a time like 2026-01-02T15:04:05Z", since)
			}
			if q.Limit < 1 || q.Limit > v1.MaxConnections {
				return usage(cmd, "--tail %d is not between 1 and %d", q.Limit, v1.MaxConnections)
			}
			if len(args) > 0 {
				q.Plugin = args[0]
			}
			return a.withClient(func(c *client.Client) error {
				if follow {
					return a.followConnections(cmd.Context(), c, q, r)
				}
				return a.showConnections(cmd, c, q, r)
			})
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&follow, "follow", "f", false, "go on until you interrupt")
	flags.BoolVar(&q.Denied, "denied", false, "only what was denied or cut off")
	flags.StringVar(&since, "since", "", "only entries after a `TIME`, or of the last while (10m)")
	flags.IntVar(&q.Limit, "tail", v1.DefaultConnections, "of what there is, only the newest `N` entries")
	flags.BoolVar(&r.json, "json", false, "print a JSON object for each entry")
	r.addAll(cmd)
	return cmd
}

// atMost lets arguments be left out, from the last on.
func atMost(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > len(names) {
			return usage(cmd, "%q is one argument too many", args[len(names)])
		}
		return nil
	}
}

func (a *app) showConnections(cmd *cobra.Command, c *client.Client, q v1.ConnectionQuery, r reads) error {
	list, err := c.Connections(cmd.Context(), a.tenantOf(r), q)
	if err != nil {
		return err
	}
	if r.json {
		return a.print(func(w io.Writer) error { return printConnections(w, list, r) })
	}
	if len(list) == 0 {
		fmt.Fprintln(cmd.OutOrStdout(), "no connections")
		return nil
	}
	rows := [][]string{{"TIME", "PLUGIN", "WHAT", "DESTINATION", "DETAILS"}}
	if r.all {
		rows[0] = append([]string{"TENANT"}, rows[0]...)
	}
	for _, conn := range list {
		rows = append(rows, connectionRow(conn, r.all))
	}
	return table(cmd, rows)
}

func printConnections(w io.Writer, list []v1.Connection, r reads) error {
	for _, conn := range list {
		if err := printConnection(w, conn, r); err != nil {
			return err
		}
	}
	return nil
}

func printConnection(w io.Writer, conn v1.Connection, r reads) error {
	if r.json {
		return printLine(w, conn)
	}
	_, err := fmt.Fprintln(w, clean(strings.Join(connectionRow(conn, r.all), "  ")))
	return err
}

// followConnections prints what there is and then what comes. The events begin
// before the list is read, so that nothing is missed between them; what is in
// both is printed once.
func (a *app) followConnections(ctx context.Context, c *client.Client, q v1.ConnectionQuery, r reads) error {
	events := v1.EventQuery{Tenant: a.tenantOf(r)}
	if err := skipEvents(ctx, c, &events, 0); err != nil {
		return err
	}
	list, err := c.Connections(ctx, events.Tenant, q)
	if err != nil {
		return err
	}
	id, err := a.pluginID(ctx, c, q.Plugin, r)
	if err != nil {
		return err
	}
	printed := map[string]int{}
	for _, conn := range list {
		printed[identity(conn)]++
	}
	events.Follow = true
	return a.print(func(w io.Writer) error {
		if err := printConnections(w, list, r); err != nil {
			return err
		}
		return c.Events(ctx, events, func(e v1.Event) error {
			if e.Type == v1.EventGap {
				fmt.Fprintln(a.env.Stderr, "ocmt: entries were lost: they came faster than they were read")
			}
			conn, ok := connectionOf(e)
			if !ok || id != "" && conn.Plugin != id || q.Denied && conn.Allowed && conn.Code == "" {
				return nil
			}
			if key := identity(conn); printed[key] > 0 {
				printed[key]--
				return nil
			}
			return printConnection(w, conn, r)
		})
	})
}

// pluginID returns the id of a plugin that may be named by its package.
func (a *app) pluginID(ctx context.Context, c *client.Client, ref string, r reads) (string, error) {
	if ref == "" || r.all {
		return ref, nil
	}
	p, err := c.Plugin(ctx, a.tenant, ref)
	return p.ID, err
}

// identity is the same for an entry and for the event that told of it.
func identity(conn v1.Connection) string {
	conn.Tenant, conn.Command = "", "" // of an event, the tenant is beside it
	text, err := json.Marshal(conn)
	if err != nil {
		return "" // our own type
	}
	return string(text)
}

// connectionOf returns the entry that an event tells of, if it tells of one.
func connectionOf(e v1.Event) (conn v1.Connection, ok bool) {
	if e.Type != v1.EventConnection || json.Unmarshal(e.Data, &conn) != nil {
		return conn, false
	}
	if conn.Time.IsZero() {
		conn.Time = e.Time
	}
	conn.Tenant, conn.Plugin = e.Tenant, e.Plugin
	return conn, true
}

func connectionRow(c v1.Connection, tenants bool) []string {
	row := []string{instant(c.Time), orDash(c.Plugin), verdict(c), orDash(shorten(target(c), 100)), shorten(connectionDetail(c), 400)}
	if tenants {
		row = append([]string{orDash(c.Tenant)}, row...)
	}
	return row
}

// verdict is what happened in a word.
func verdict(c v1.Connection) string {
	switch {
	case c.Phase == v1.PhaseClose && (c.Code != "" || !c.Allowed):
		return "cut off"
	case !c.Allowed:
		return "denied"
	case c.Phase == v1.PhaseClose:
		return "closed"
	case c.Phase == v1.PhaseRequest:
		return "request"
	}
	return "allowed"
}

// target is what was asked for.
func target(c v1.Connection) string {
	to := c.Host
	if c.Port != 0 {
		to = net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port)))
	}
	if c.Method != "" {
		to = c.Method + " " + to + c.Path
	}
	return to
}

// connectionDetail says why something was denied and what would grant it, or
// what came of it.
func connectionDetail(c v1.Connection) string {
	var parts []string
	add := func(some bool, format string, args ...any) {
		if some {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	switch {
	case c.Detail != "" && c.Code != "":
		add(true, "%s (%s)", c.Detail, c.Code)
	default:
		add(c.Detail+c.Code != "", "%s", c.Detail+c.Code)
	}
	add(c.Count > 1, "%d times", c.Count)
	add(c.Phase == v1.PhaseOpen && c.Rule != "", "by %s", c.Rule)
	add(c.Phase == v1.PhaseOpen && c.Address != "", "at %s", c.Address)
	add(c.Phase == v1.PhaseClose, "%s up, %s down in %s", byteSize(c.BytesUp), byteSize(c.BytesDown), time.Duration(c.DurationMillis)*time.Millisecond)
	add(c.Status != 0, "status %d", c.Status)
	add(len(c.Secrets) > 0, "with %s", strings.Join(c.Secrets, ", "))
	add(c.Command != "", "to grant it: %s", c.Command)
	return strings.Join(parts, "; ")
}
