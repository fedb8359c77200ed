package secrets

import (
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

var (
	tokenPattern = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$") // RFC 9110, 5.6.2
	queryPattern = regexp.MustCompile(`^[A-Za-z0-9._~$\[\]-]+$`)
)

// connectionHeaders say how a message is sent, and not what it says: a value
// in one of them would change where the request ends or goes.
var connectionHeaders = []string{
	"Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Upgrade", "Te", "Trailer",
}

func invalid(format string, args ...any) *fault.Error {
	return fault.New(errdefs.ErrInvalidArgument, "invalid_secret", format, args...)
}

// check returns meta as it is kept, or why it or the value cannot be used.
func check(meta Secret, value string) (Secret, error) {
	if err := plugin.CheckSecretName(meta.Name); err != nil {
		return meta, refused("name", meta.Name, err)
	}
	meta, err := checkBinding(meta)
	if err != nil {
		return meta, err
	}
	return meta, checkValue(meta, value)
}

// refused turns an error of package plugin, which names no place, into ours.
func refused(what, text string, err error) error {
	var p *plugin.PermissionError
	if !errors.As(err, &p) {
		return err
	}
	return invalid("the %s %q of the secret %s", what, plugin.Printable(text, plugin.MaxVariableLen), p.Problem).WithHint("%s", p.Hint)
}

// checkBinding judges where the secret may go.
func checkBinding(meta Secret) (Secret, error) {
	if meta.Host == "" {
		switch {
		case meta.Header != "" || meta.Query != "" || meta.Port != 0:
			return meta, invalid("the secret %s names a header, a query parameter or a port and no host", meta.Name).
				WithHint("name the host that is sent the value, for example --host api.example.com")
		case !meta.Env:
			return meta, invalid("the secret %s is bound to no host", meta.Name).
				WithHint("say where it may go: --host HOST with --header HEADER or --query NAME, or --env to hand it out in plain")
		}
		return meta, nil
	}
	host, err := plugin.CanonicalHost(meta.Host)
	if err != nil {
		return meta, refused("host", meta.Host, err)
	}
	meta.Host = host
	if meta.Port == 0 {
		meta.Port = plugin.DefaultPort
	}
	switch {
	case meta.Header == "" && meta.Query == "":
		return meta, invalid("the secret %s has a host, and neither a header nor a query parameter", meta.Name).
			WithHint("say where requests carry it, for example --header Authorization")
	case meta.Header != "" && meta.Query != "":
		return meta, invalid("the secret %s has both a header and a query parameter", meta.Name).
			WithHint("name one of them; a second secret can have the other")
	case meta.Header != "":
		meta.Header, err = checkHeader(meta.Header)
		return meta, err
	}
	return meta, checkQuery(meta.Query)
}

func checkHeader(name string) (string, error) {
	if len(name) > MaxNameSize || !tokenPattern.MatchString(name) {
		return "", invalid("the header %q is no name of a header", plugin.Printable(name, MaxNameSize)).
			WithHint("write the name alone, for example Authorization or X-Api-Key")
	}
	name = http.CanonicalHeaderKey(name)
	if slices.Contains(connectionHeaders, name) || strings.HasPrefix(name, "Proxy-") {
		return "", invalid("the header %s can carry no secret: it says how the message is sent", name).
			WithHint("name the header that the host reads the secret from, for example Authorization")
	}
	return name, nil
}

func checkQuery(name string) error {
	if len(name) > MaxNameSize || !queryPattern.MatchString(name) {
		return invalid("the query parameter %q is no name of one", plugin.Printable(name, MaxNameSize)).
			WithHint(`write the name alone, for example api_key; letters, digits and ".", "_", "~", "$", "[", "]", "-" are allowed`)
	}
	return nil
}

// checkValue says nothing of the value but its length.
func checkValue(meta Secret, value string) error {
	bound := meta.Host != ""
	switch {
	case strings.TrimSpace(value) == "":
		return invalid("the value of the secret %s is empty", meta.Name).WithHint("give it the key or token itself")
	case len(value) > MaxValue:
		return invalid("the value of the secret %s has %d bytes, at most %d are allowed", meta.Name, len(value), MaxValue).
			WithHint("a secret is a key or a token; grant a plugin larger files as a workspace")
	case !utf8.ValidString(value):
		return invalid("the value of the secret %s is no UTF-8 text", meta.Name).WithHint("encode it, for example as base64")
	case strings.HasPrefix(value, PlaceholderPrefix):
		return invalid("the value of the secret %s is a placeholder", meta.Name).
			WithHint("give it the key or token that the placeholder stands for")
	case strings.ContainsAny(value, "\r\n") && bound:
		return invalid("the value of the secret %s has more than one line, or a line end after it", meta.Name).
			WithHint("leave out the line end (printf, not echo); only a secret with --env and no host may have several lines")
	case strings.ContainsFunc(value, func(r rune) bool { return unicode.IsControl(r) && (bound || !isLayout(r)) }):
		return invalid("the value of the secret %s holds control characters", meta.Name).WithHint("give it the key or token alone")
	case !bound:
		return nil
	case value != strings.TrimSpace(value):
		return invalid("the value of the secret %s begins or ends with a blank", meta.Name).WithHint("leave the blanks out")
	case utf8.RuneCountInString(value) < MinBound:
		return invalid("the value of the secret %s has %d characters, a secret with a host has at least %d",
			meta.Name, utf8.RuneCountInString(value), MinBound).
			WithHint("use a longer key: a value as short as this could not be struck out of what the host answers")
	case meta.Header != "" && strings.ContainsFunc(value, func(r rune) bool { return r > unicode.MaxASCII }):
		return invalid("the value of the secret %s holds characters that no header can carry", meta.Name).
			WithHint("give it in the encoding that the host expects")
	}
	return nil
}

// isLayout reports the control characters of a text of several lines.
func isLayout(r rune) bool { return r == '\n' || r == '\r' || r == '\t' }
