package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Answers to a review.
const (
	AcceptAll   = "all"   // grant all items
	AcceptBasic = "basic" // grant the items of class Basic
)

// Candidate is a plugin that was loaded once and is about to be installed.
type Candidate struct {
	Descriptor plugin.Descriptor
	Surface    plugin.Surface
	Payload    string  // digest of the sealed payload
	Granted    []Grant // what the installed version has
	Limits     Limits
}

// Review is what a person is shown before an install counts.
type Review struct {
	// Digest is "sha256:<hex>" of all that is shown, and of the payload.
	Digest string
	// Items are what the answer decides, of class Basic or Sensitive, in
	// order: what the plugin asks for and was not granted before. A value
	// includes what is granted already.
	Items []Ask
	// Later are what the answer cannot decide: they become requests.
	Later []Ask
	// Update says that some of what it asks for was granted before.
	Update bool
}

// NewReview makes the review of a candidate.
func NewReview(c Candidate, now time.Time) Review {
	var r Review
	for _, a := range Asked(c.Descriptor, c.Surface, c.Limits) {
		switch {
		case covered(a, c.Granted, now):
			r.Update = true
		case a.Class == Basic || a.Class == Sensitive:
			r.Items = append(r.Items, widen(a, c.Granted))
		default:
			r.Later = append(r.Later, a)
		}
	}
	r.Digest = c.digest(r)
	return r
}

// widen adds to an ask what is granted for good about the same target: the
// new grant takes the old one's place and must not take anything away.
func widen(a Ask, granted []Grant) Ask {
	i := slices.IndexFunc(granted, func(g Grant) bool {
		return g.Kind == a.Kind && g.Target == a.Target && g.ExpiresAt.IsZero()
	})
	if i < 0 {
		return a
	}
	old := granted[i]
	switch a.Kind {
	case Hook:
		if g, err := ParseGrant(string(Hook), a.Target, a.Value+","+old.Value); err == nil {
			a.Value = g.Value
		}
	case Network:
		have, err := readRule(old.Target, old.Value)
		want, wantErr := readRule(a.Target, a.Value)
		if err == nil && wantErr == nil {
			want.Addresses = have.Addresses
			a.Value = want.join(have).value()
		}
	}
	return a
}

// digest is over everything that the person sees, and over the payload, so
// that an answer is about these bytes.
func (c Candidate) digest(r Review) string {
	type item struct {
		Kind     Kind   `json:"kind"`
		Target   string `json:"target"`
		Value    string `json:"value"`
		Class    Class  `json:"class"`
		Reason   string `json:"reason"`
		Sentence string `json:"sentence"`
	}
	var items []item
	for _, a := range append(slices.Clone(r.Items), r.Later...) {
		items = append(items, item{a.Kind, a.Target, a.Value, a.Class, a.Reason, a.Explain()})
	}
	doc, err := json.Marshal(map[string]any{
		"id": c.Descriptor.ID, "name": c.Descriptor.Name, "version": c.Descriptor.Version, "payload": c.Payload,
		"items": items, "diagnostics": c.Surface.Diagnostics, "update": r.Update,
	})
	if err != nil {
		panic(err) // strings can be encoded
	}
	sum := sha256.Sum256(doc)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Grants returns what an answer grants: of AcceptAll all items, of
// AcceptBasic the basic ones, of anything else nothing.
func (r Review) Grants(accept, actor string, now time.Time) []Grant {
	var out []Grant
	for _, a := range r.Items {
		if accept != AcceptAll && (accept != AcceptBasic || a.Class != Basic) {
			continue
		}
		g, err := ParseGrant(string(a.Kind), a.Target, a.Value)
		if err != nil {
			continue // what cannot be granted by hand cannot be granted so
		}
		g.Origin, g.Actor, g.At = OriginReview, actor, now
		out = append(out, g)
	}
	return out
}

// Request is an ask that waits for a person. Its value includes what is
// granted already, so that granting it takes nothing away.
type Request struct {
	Ask
	// ID names it: the same for the same ask of the same plugin.
	ID string
	// Command grants it; a word in capitals is to be filled in.
	Command string
}

// Pending returns the asks that are neither granted nor denied, in order.
// Where several ask for the same, the first counts: put those that say most,
// as [Wanted]'s, first. denied holds the IDs of requests.
func Pending(key plugin.Key, asks []Ask, granted []Grant, denied map[string]bool, now time.Time) []Request {
	var out []Request
	for _, a := range normalAsks(slices.Clone(asks)) {
		id := RequestID(key, a)
		if denied[id] || covered(a, granted, now) {
			continue
		}
		a = widen(a, granted)
		out = append(out, Request{Ask: a, ID: id, Command: Command(key, a)})
	}
	return out
}

// RequestID names what a plugin asks for: it is the ID of the [Request].
func RequestID(key plugin.Key, a Ask) string {
	h := sha256.New()
	for _, part := range []string{key.Tenant, key.ID, string(a.Kind), a.Target, a.Value} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return "req_" + hex.EncodeToString(h.Sum(nil)[:8])
}

// Command is what grants the ask: ocmt plugins grant ID KIND TARGET [VALUE],
// with the value first of a workspace. A word in capitals is to be filled in.
func Command(key plugin.Key, a Ask) string {
	words := []string{"ocmt", "plugins", "grant", key.ID, string(a.Kind), quote(a.Target)}
	switch {
	case a.Kind == Workspace && a.Target == "":
		words = append(words[:5], a.Value, "PATH")
	case a.Kind == Workspace:
		words = append(words[:5], a.Value, quote(a.Target))
	case a.Kind == Network && a.Value == "" && a.Class == NeedsDetail:
		words = append(words, addressPrefix+"RANGE")
	case a.Kind == Network && a.Class == NeedsDetail: // rules come last
		words = append(words, quote(addressPrefix+"RANGE,"+a.Value))
	case a.Value != "":
		words = append(words, quote(a.Value))
	}
	if key.Tenant != plugin.DefaultTenant {
		words = append(words, "--tenant", key.Tenant)
	}
	return strings.Join(words, " ")
}

// quote makes s one word of a shell.
func quote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:,=@%+", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
