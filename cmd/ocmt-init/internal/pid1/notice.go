package pid1

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

const (
	// noticeAgain is how long the same refusal is not told a second time.
	noticeAgain = 10 * time.Minute
	// noticeWindow and noticesPerWindow bound how many are told.
	noticeWindow     = time.Minute
	noticesPerWindow = 10
	// maxNoticed bounds the refusals that are remembered: of more, none is
	// told until there is room.
	maxNoticed = 256
	// usualPort is taken for a name that was only looked up.
	usualPort = 443
	// defaultTenant needs no naming.
	defaultTenant = "default"
)

// notices tells the plugin's log, and with it whoever reads it, what of the
// network was refused and the command that would allow it.
type notices struct {
	to             io.Writer
	plugin, tenant string

	mu     sync.Mutex
	last   map[string]time.Time // when a line was written
	window time.Time            // when the present window began
	told   int                  // in the present window
}

// newNotices writes to w. Without a plugin there is nobody to grant anything
// to.
func newNotices(w io.Writer, plugin, tenant string) *notices {
	return &notices{to: w, plugin: plugin, tenant: tenant, last: map[string]time.Time{}}
}

// refused writes a line about a destination, unless that was done a while ago
// or there are too many.
func (n *notices) refused(target link.Grant, why link.Denied) {
	if target.Port == 0 {
		target.Port = usualPort
	}
	if !link.ValidHost(target.Host) {
		return // a name with anything else in it was never asked of the broker
	}
	line := n.line(target, why)
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if when, ok := n.last[line]; ok && now.Sub(when) < noticeAgain || !n.makeRoom(now) {
		return
	}
	if now.Sub(n.window) >= noticeWindow {
		n.window, n.told = now, 0
	}
	n.told++
	switch {
	case n.told <= noticesPerWindow:
		n.last[line] = now
		fmt.Fprintln(n.to, line)
	case n.told == noticesPerWindow+1:
		fmt.Fprintln(n.to, "ocmt: network: more was refused than is told here; to see it: ocmt network log"+n.suffix(" "+n.plugin))
	}
}

// line says what was refused, why, and what to do.
func (n *notices) line(target link.Grant, why link.Denied) string {
	if why.Code != link.NotGranted {
		return fmt.Sprintf("ocmt: network: %s was refused: %s (%s)", target, plain(why.Message), plain(string(why.Code)))
	}
	text := fmt.Sprintf("ocmt: network: %s is not granted", target)
	if n.plugin == "" {
		return text
	}
	return text + "; to allow it: ocmt plugins grant" + n.suffix(fmt.Sprintf(" %s network %s", n.plugin, target))
}

// suffix is the end of a command, with the tenant unless it is the usual one.
func (n *notices) suffix(words string) string {
	if n.tenant != "" && n.tenant != defaultTenant {
		words += " --tenant " + n.tenant
	}
	return words
}

// makeRoom forgets what may be told again when there is much.
func (n *notices) makeRoom(now time.Time) bool {
	if len(n.last) < maxNoticed {
		return true
	}
	for line, when := range n.last {
		if now.Sub(when) >= noticeAgain {
			delete(n.last, line)
		}
	}
	return len(n.last) < maxNoticed
}

// plain drops what could disturb a log.
func plain(text string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return -1
		}
		return c
	}, text)
}
