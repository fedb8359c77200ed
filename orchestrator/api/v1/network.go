package v1

import "time"

// Bounds of a [ConnectionQuery]'s Limit.
const (
	DefaultConnections = 200
	MaxConnections     = 5000
)

// Connection is an entry of the network log: of a connection of a plugin, of a
// request in one that is inspected, or of what was denied. It is also the data
// of [EventConnection].
type Connection struct {
	Time   time.Time `json:"time,omitzero" required:"false"`
	Tenant string    `json:"tenant,omitempty"`
	Plugin string    `json:"plugin,omitempty" doc:"absent of npm while it installs"`
	Phase  string    `json:"phase,omitempty" enum:"open,close,denied,request" doc:"open: allowed, nothing has passed yet; close: it has ended; denied: it never came to be; request: one request of an inspected connection"`
	Host   string    `json:"host" doc:"as asked for; empty if count is of several"`
	Port   uint16    `json:"port,omitempty" doc:"0 if only the name was asked for"`
	// Address is what was dialled, SNI the server name that was sent.
	Address string `json:"address,omitempty" example:"203.0.113.7:443"`
	SNI     string `json:"sni,omitempty"`
	Allowed bool   `json:"allowed"`
	Code    string `json:"code,omitempty" doc:"why it was denied or cut off" example:"not_granted"`
	Detail  string `json:"detail,omitempty" doc:"the same for a person"`
	Rule    string `json:"rule,omitempty" doc:"the rule that allowed it" example:"*.example.com:443"`
	// BytesUp, BytesDown and DurationMillis are of phase close.
	BytesUp        int64 `json:"bytesUp,omitempty" doc:"from the plugin"`
	BytesDown      int64 `json:"bytesDown,omitempty" doc:"to the plugin"`
	DurationMillis int64 `json:"durationMs,omitempty" doc:"ms"`
	Count          int   `json:"count,omitempty" doc:"how many this is of, if more than one: too many in a second to tell each"`
	// Method, Path, Status and Secrets are of inspected requests.
	Method  string   `json:"method,omitempty" example:"GET"`
	Path    string   `json:"path,omitempty" doc:"without the query"`
	Status  int      `json:"status,omitempty" doc:"of the answer" example:"200"`
	Secrets []string `json:"secrets,omitempty" nullable:"false" doc:"names of the secrets that were put into the request"`
	Command string   `json:"command,omitempty" doc:"what would grant it"`
}

// Phases of a [Connection].
const (
	PhaseOpen    = "open"
	PhaseClose   = "close"
	PhaseDenied  = "denied"
	PhaseRequest = "request"
)

// ConnectionQuery says which entries of the network log to return.
type ConnectionQuery struct {
	Plugin string    // id, or of one tenant the package name; "" is every plugin
	Denied bool      // those only that were denied or cut off
	Since  time.Time // later ones only, if not zero
	Limit  int       // the newest ones only; 1 to MaxConnections
}

// ConnectionList answers with entries of the network log, the oldest first.
type ConnectionList struct {
	Connections []Connection `json:"connections" nullable:"false"`
}

// NetworkStats counts what a plugin's connections came to since it was started.
type NetworkStats struct {
	Open      int64 `json:"open" doc:"connections that have not ended"`
	Allowed   int64 `json:"allowed"`
	Denied    int64 `json:"denied"`
	Reported  int64 `json:"reported" doc:"names that it asked for and that nothing is granted for"`
	BytesUp   int64 `json:"bytesUp" doc:"from the plugin"`
	BytesDown int64 `json:"bytesDown" doc:"to the plugin"`
}
