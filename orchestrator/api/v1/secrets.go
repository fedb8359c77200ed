package v1

import (
	"fmt"
	"log/slog"
	"time"
)

// MaxSecret bounds the value of a secret, bytes.
const MaxSecret = 16 << 10

// Secret tells of a secret of a tenant, without its value: that is never told.
type Secret struct {
	Name string `json:"name" example:"EXAMPLE_API_KEY"`
	// Host and Port say where it may be sent, Header or Query where in a request.
	// A plugin holds a placeholder, which is replaced on the way there. Without
	// a host it is not sent anywhere.
	Host   string `json:"host,omitempty" doc:"a name, or *.name for one label" example:"api.example.com"`
	Port   uint16 `json:"port,omitempty" example:"443"`
	Header string `json:"header,omitempty" doc:"the header that may hold it" example:"Authorization"`
	Query  string `json:"query,omitempty" doc:"the query parameter that may hold it" example:"key"`
	// Env allows to grant it in plain, as an environment variable.
	Env       bool      `json:"env,omitempty" doc:"it may be granted to a plugin in plain, as an environment variable"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
	Actor     string    `json:"actor,omitempty" doc:"who set it last"`
	Plugins   []string  `json:"plugins" nullable:"false" doc:"ids of the plugins that it is granted to"`
}

// SecretList answers a list of secrets, by name.
type SecretList struct {
	Secrets []Secret `json:"secrets" nullable:"false"`
	Next    string   `json:"next,omitempty" doc:"cursor of the next page, if there is one"`
}

// SetSecret makes a secret or replaces it, value and all. Printed or logged, it
// leaves out the value.
type SetSecret struct {
	Value string `json:"value" writeOnly:"true" doc:"1 to 16384 bytes of one line; it is never told again"`
	SecretUse
}

// String leaves out the value.
func (s SetSecret) String() string { return fmt.Sprintf("a value and %+v", s.SecretUse) }

// GoString leaves out the value.
func (s SetSecret) GoString() string { return s.String() }

// LogValue leaves out the value.
func (s SetSecret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// SecretUse says what a secret may be used for: see [Secret].
type SecretUse struct {
	Host   string `json:"host,omitempty" maxLength:"1024" doc:"where it may be sent: a name, or *.name for one label; absent: nowhere"`
	Port   uint16 `json:"port,omitempty" doc:"443 if absent and there is a host"`
	Header string `json:"header,omitempty" maxLength:"256" doc:"the header that may hold it; a secret with a host has this or query"`
	Query  string `json:"query,omitempty" maxLength:"256" doc:"the query parameter that may hold it"`
	Env    bool   `json:"env,omitempty" doc:"it may be granted to a plugin in plain, as an environment variable"`
}

// MoveSecret takes a key that stands in a plugin's configuration, makes a secret
// of it, and leaves a reference to it in its place.
type MoveSecret struct {
	Path string `json:"path" minLength:"1" maxLength:"512" doc:"dot path of the key in the plugin's own configuration" example:"auth.apiKey"`
	Name string `json:"name" minLength:"1" maxLength:"128" doc:"of the secret, which must not exist" example:"EXAMPLE_API_KEY"`
	SecretUse
}
