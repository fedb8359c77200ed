package client

import (
	"io"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

// MaxHostCalls is how many calls a host answers at once.
const MaxHostCalls = maxHostCalls

// ReadStream reads the event stream of an install.
func ReadStream(r io.Reader, on func(name string, data []byte) error) (v1.PluginDetail, error) {
	return readResult[v1.PluginDetail](r, on)
}

// ReadAll reads server-sent events and returns the data of each.
func ReadAll(r io.Reader) (ids, names, data []string, err error) {
	events := newMessages(r)
	for {
		m, err := events.next()
		if err != nil {
			return ids, names, data, err
		}
		ids, names, data = append(ids, m.id), append(names, m.name), append(data, string(m.data))
	}
}
