package egress

import (
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

const (
	// maxSecrets bounds the secrets of one rule.
	maxSecrets = 64
	// maxSecretValue bounds a value, in bytes: servers take headers of 8 KiB
	// and little more.
	maxSecretValue = 8 << 10
	// minPlaceholder is the shortest placeholder, in characters: it must be
	// found nowhere by chance.
	minPlaceholder = 16
)

// placeholderPattern holds what means the same in a header and in a query.
var placeholderPattern = regexp.MustCompile(`^[A-Za-z0-9._~-]{16,256}$`)

// Secret is a value that the container must not see. It has a placeholder
// instead, which is replaced on the way to the host of the rule that holds the
// secret. However it is formatted, a secret shows its name alone.
type Secret struct {
	Name        string
	Placeholder string // at least 16 of the characters A-Z a-z 0-9 . _ ~ -
	Value       string
	Header      string // the only header in which the placeholder is replaced
	Query       string // the only query parameter, likewise; exactly one of both
}

// Format implements fmt.Formatter for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// String returns the secret's name.
func (s Secret) String() string { return "secret " + s.Name }

// GoString returns the secret's name.
func (s Secret) GoString() string { return s.String() }

// LogValue returns the secret's name.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText returns the secret's name, for JSON too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// framing are the headers that say how a message is carried: no secret belongs
// there.
var framing = []string{
	"Accept-Encoding", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host", "Http2-Settings",
	"Keep-Alive", "Proxy-Connection", "Range", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// validate says what is wrong with a secret, without its value.
func (s Secret) validate() error {
	header := http.CanonicalHeaderKey(s.Header)
	switch {
	case s.Name == "" || len(s.Name) > 128:
		return invalid("cannot use a secret without a name of at most 128 bytes")
	case (s.Header == "") == (s.Query == ""):
		return invalid("cannot use the secret %q: it needs either a header or a query parameter that it is for", s.Name)
	case s.Header != "" && (!httpguts.ValidHeaderFieldName(s.Header) || slices.Contains(framing, header)):
		return invalid("cannot put the secret %q into the header %.80q", s.Name, s.Header)
	case s.Query != "" && (len(s.Query) > 128 || hasControls(s.Query)):
		return invalid("cannot put the secret %q into that query parameter", s.Name)
	case !placeholderPattern.MatchString(s.Placeholder):
		return invalid("cannot use the secret %q: its placeholder must be %d or more letters, digits, dots, dashes, underscores or tildes", s.Name, minPlaceholder)
	case strings.TrimSpace(s.Value) == "":
		return invalid("cannot use the secret %q: it is empty", s.Name)
	case len(s.Value) > maxSecretValue:
		return invalid("cannot use the secret %q: it has more than %d bytes", s.Name, maxSecretValue)
	case hasControls(s.Value):
		return invalid("cannot use the secret %q: it has more than one line, or control characters", s.Name)
	}
	return nil
}

// validateSecrets says what is wrong with the secrets of one rule.
func validateSecrets(secrets []Secret) error {
	if len(secrets) > maxSecrets {
		return invalid("cannot use %d secrets for one host: at most %d are possible", len(secrets), maxSecrets)
	}
	for i, s := range secrets {
		if err := s.validate(); err != nil {
			return err
		}
		for j, other := range secrets {
			switch {
			case i == j:
			case s.Name == other.Name:
				return invalid("cannot use two secrets of the name %q", s.Name)
			case strings.Contains(s.Placeholder, other.Placeholder):
				return invalid("cannot tell the placeholders of the secrets %q and %q apart", s.Name, other.Name)
			}
		}
		for _, other := range secrets {
			if strings.Contains(s.Value, other.Placeholder) {
				return invalid("cannot use the secret %q: it holds a placeholder", s.Name)
			}
		}
	}
	return nil
}

func hasControls(text string) bool {
	return strings.IndexFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f }) >= 0
}

// fill puts the values of secrets into a request, each only where it belongs.
// It returns their names, and as pairs for a redactor what else of the request
// would show a value if the host sent it back.
func fill(secrets []Secret, r *http.Request) (names []string, echoes []pair) {
	for _, s := range secrets {
		found := false
		if s.Query != "" {
			r.URL.RawQuery, found = s.fillQuery(r.URL.RawQuery)
		} else {
			found = s.fillHeader(r.Header[http.CanonicalHeaderKey(s.Header)], &echoes)
		}
		if found {
			names = append(names, s.Name)
		}
	}
	return names, echoes
}

// fillHeader puts the value in anywhere in a header's values, in the
// credentials of Basic authentication (RFC 7617) too.
func (s Secret) fillHeader(values []string, echoes *[]pair) (found bool) {
	for i, value := range values {
		filled := s.fillText(value)
		if scheme, credentials, plain := basic(value); strings.Contains(plain, s.Placeholder) {
			encoded := base64.StdEncoding.EncodeToString([]byte(s.fillText(plain)))
			filled = scheme + " " + encoded
			*echoes = addEcho(*echoes, credentials, encoded)
		}
		if filled != value {
			values[i], found = filled, true
		}
	}
	return found
}

// addEcho notes that credentials go out as other ones, maybe after another
// secret was put into them.
func addEcho(echoes []pair, from, to string) []pair {
	for i := range echoes {
		if echoes[i].old == from {
			echoes[i].old = to
			return echoes
		}
	}
	return append(echoes, pair{to, from})
}

// basic takes credentials of Basic authentication apart; plain is empty when
// value is anything else.
func basic(value string) (scheme, credentials, plain string) {
	scheme, credentials, _ = strings.Cut(value, " ")
	credentials = strings.TrimSpace(credentials)
	if !strings.EqualFold(scheme, "Basic") {
		return scheme, credentials, ""
	}
	decoded, err := base64.StdEncoding.DecodeString(credentials)
	if err != nil {
		return scheme, credentials, ""
	}
	return scheme, credentials, string(decoded)
}

func (s Secret) fillText(text string) string { return strings.ReplaceAll(text, s.Placeholder, s.Value) }

// fillQuery puts the value into the parameter of that name, and leaves the
// rest of the query as it was written.
func (s Secret) fillQuery(query string) (filled string, found bool) {
	parts := strings.Split(query, "&")
	for i, part := range parts {
		rawName, rawValue, _ := strings.Cut(part, "=")
		name, errName := url.QueryUnescape(rawName)
		value, errValue := url.QueryUnescape(rawValue)
		if errName == nil && errValue == nil && name == s.Query && strings.Contains(value, s.Placeholder) {
			parts[i] = rawName + "=" + url.QueryEscape(s.fillText(value))
			found = true
		}
	}
	return strings.Join(parts, "&"), found
}
