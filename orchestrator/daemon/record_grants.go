package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/ocmt/ocmt/orchestrator/audit"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
)

// grantsPerRecord is how many bytes of grants a record says, at most half of
// which are lost to their quotes: it keeps the details within audit.MaxDetails.
const grantsPerRecord = 6 << 10

// auditedGrants is audited for an action on grants: all of them are on the disk
// before anything happens.
func (d *Daemon) auditedGrants(ctx context.Context, key plugin.Key, action string, grants []policy.Grant, do func() error) error {
	records := grantRecords(audit.Record{Tenant: key.Tenant, Plugin: key.ID, Action: action, Outcome: outcomeBegun}, grants)
	last := len(records) - 1
	for _, rec := range records[:last] { // the last one waits for the disk
		if err := d.note(ctx, rec); err != nil {
			return err
		}
	}
	return d.auditedAs(ctx, records[last], do)
}

// grantRecords returns rec with the grants in it: as its target where they fit,
// else as its details, and those of further records.
func grantRecords(rec audit.Record, grants []policy.Grant) []audit.Record {
	if len(grants) == 1 {
		if rec.Target = describeGrant(grants[0]); len(rec.Target) <= audit.MaxText {
			return []audit.Record{rec}
		}
	}
	rec.Target = fmt.Sprintf("%d permissions", len(grants))
	var records []audit.Record
	for _, texts := range grantTexts(grants) {
		rec.Details = map[string][]string{"grants": texts}
		records = append(records, rec)
	}
	return records
}

// grantTexts describes grants in lists that fit into one record each. What does
// not is continued in the next one.
func grantTexts(grants []policy.Grant) [][]string {
	var lists [][]string
	room := 0
	for _, g := range grants {
		for text := describeGrant(g); text != ""; {
			if room == 0 || len(text) > room && len(text) <= grantsPerRecord {
				lists, room = append(lists, nil), grantsPerRecord
			}
			n := min(len(text), room)
			last := len(lists) - 1
			lists[last] = append(lists[last], text[:n])
			text, room = text[n:], room-n
		}
	}
	return lists
}

func describeGrant(g policy.Grant) string {
	text := string(g.Kind) + " " + g.Target
	if g.Value != "" {
		text += " " + g.Value
	}
	if !g.ExpiresAt.IsZero() {
		text += " until " + g.ExpiresAt.Format(time.RFC3339)
	}
	return text
}
