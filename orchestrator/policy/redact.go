package policy

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// recogniser tells which strings of a configuration look like secrets, by the
// names above them or by themselves. It errs towards yes: what a plugin is not
// shown, a person can still grant it.
type recogniser struct {
	kinds map[string]nameKind // of names that were looked at
	texts map[string]bool     // strings that are secrets wherever they are
}

func newRecogniser() *recogniser {
	return &recogniser{kinds: map[string]nameKind{}, texts: map[string]bool{}}
}

// minKnown is how many characters a secret must have to be recognised in
// another place: shorter ones may be ordinary words.
const minKnown = 8

// secretsIn knows the secrets of a configuration, of which one entry is left
// out.
func secretsIn(root *object, entry []string) *recogniser {
	r := newRecogniser()
	r.each(root, entry, func(_ []string, text string) {
		if utf8.RuneCountInString(text) >= minKnown {
			r.texts[text] = true
		}
	})
	return r
}

// each calls do with every string in tree that looks like a secret by its name
// or by itself, but for those at and below skip.
func (r *recogniser) each(tree any, skip []string, do func(path []string, text string)) {
	w := visitor{visit: func(path []string, value any) (any, bool) {
		switch v := value.(type) {
		case *object:
			return nil, isReference(v) || len(skip) > 0 && slices.Equal(path, skip)
		case string:
			if r.plain(path, v) {
				do(path, v)
			}
		}
		return nil, false
	}}
	w.walk(nil, tree)
}

// redact returns a copy of the value at path in which references are in the
// place of secrets.
func (r *recogniser) redact(path []string, value any) any {
	w := visitor{keep: func(name string) bool { return !r.is(name) }}
	w.visit = func(path []string, value any) (any, bool) {
		switch v := value.(type) {
		case *object:
			id, _ := v.text("id")
			return v, isReference(v) && !r.texts[id]
		case string:
			if r.texts[v] || r.plain(path, v) {
				return reference(SourceConfig, dotPath(path)), true
			}
		}
		return nil, false
	}
	return w.walk(slices.Clone(path), value)
}

// is reports whether a text is a secret whatever its name.
func (r *recogniser) is(text string) bool { return r.texts[text] || looksSecret(text) }

// plain reports whether the string at path looks like a secret.
func (r *recogniser) plain(path []string, text string) bool {
	if text == "" || variableReference.MatchString(text) {
		return false
	}
	if looksSecret(text) {
		return true
	}
	for _, name := range path {
		kind, seen := r.kinds[name]
		if !seen {
			kind = kindOfName(name)
			r.kinds[name] = kind
		}
		if kind == secretName || kind == webhookName && carriesToken(text) {
			return true
		}
	}
	return false
}

// referenceSources are those of OpenClaw, and ours.
var referenceSources = []string{"env", "file", "exec", SourceOCMT, SourceConfig}

func reference(source, id string) *object {
	o := &object{}
	o.set("source", source)
	o.set("id", id)
	return o
}

// isReference reports whether an object says where a secret is, and nothing
// else that could be one.
func isReference(o *object) bool {
	source, hasSource := o.text("source")
	_, hasID := o.text("id")
	if !hasSource || !hasID || !slices.Contains(referenceSources, source) {
		return false
	}
	for _, name := range o.names {
		text, ok := o.text(name)
		if !ok || name != "source" && name != "id" && name != "provider" || looksSecret(text) {
			return false
		}
	}
	return true
}

// variableReference is how a configuration names a variable of the host.
var variableReference = regexp.MustCompile(`^\$\{[A-Za-z_][A-Za-z0-9_]*\}$`)

// nameKind is what the name of a value says of it.
type nameKind int

const (
	ordinaryName nameKind = iota
	secretName
	webhookName // a URL that may hold a secret
)

// secretEndings end the names of secrets, when case and separators are left
// out.
var secretEndings = []string{
	"token", "tokens", "secret", "secrets", "password", "passwords", "passwd", "passphrase", "passphrases", "passcode",
	"credential", "credentials", "authorization", "cookie", "cookies", "apikey", "apikeys", "appkey", "privatekey", "privatekeys",
	"accesskey", "accesskeys", "accesskeyid", "secretkey", "secretkeys", "secretkeybase", "signingkey", "signingkeys", "encryptionkey",
	"masterkey", "authkey", "sharedkey", "accountkey", "subscriptionkey", "licensekey", "servicekey", "servicerolekey", "hmackey",
	"sshkey", "deploykey", "connectionstring", "connectionstrings",
}

// secretWords are names of secrets only as a whole last word.
var secretWords = []string{"dsn", "pwd", "pass", "jwt", "bearer", "cred", "creds", "pat", "otp", "totp"}

var webhookEndings = []string{"webhook", "webhooks", "webhookurl", "webhookurls", "webhookuri"}

// Words before "tokens" and "token" that make it text rather than a secret.
var (
	countedTokens = []string{
		"max", "min", "num", "total", "limit", "context", "input", "output", "prompt", "completion", "reasoning", "thinking",
		"reserve", "reserved", "budget", "cached", "image", "audio", "count", "per", "stop", "special",
	}
	markerToken = []string{"max", "min", "stop", "special", "eos", "bos", "pad", "unk", "mask"}
)

// qualifiers may follow the name of a secret without changing what it is.
var qualifiers = []string{
	"value", "hash", "old", "new", "next", "prev", "previous", "current", "primary", "secondary", "prod", "production", "dev",
	"staging", "test", "live", "plain", "plaintext", "raw", "text", "base64", "b64", "pem",
}

func kindOfName(name string) nameKind {
	words := splitWords(name)
	for len(words) > 1 && (strings.Trim(words[len(words)-1], "0123456789") == "" || slices.Contains(qualifiers, words[len(words)-1])) {
		words = words[:len(words)-1]
	}
	if len(words) == 0 {
		return ordinaryName
	}
	joined := strings.TrimRight(strings.Join(words, ""), "0123456789")
	ends := func(end string) bool { return strings.HasSuffix(joined, end) }
	switch {
	case slices.ContainsFunc(webhookEndings, ends):
		return webhookName
	case slices.Contains(secretWords, words[len(words)-1]):
		return secretName
	case !slices.ContainsFunc(secretEndings, ends):
		return ordinaryName
	case before(words, joined, "tokens", countedTokens), before(words, joined, "token", markerToken):
		return ordinaryName
	}
	return secretName
}

// before reports whether a name ends in the given word after one of others,
// written as words of their own (maxOutputTokens) or not (maxtokens).
func before(words []string, joined, last string, others []string) bool {
	rest, ok := strings.CutSuffix(joined, last)
	if !ok {
		return false
	}
	if n := len(words); n > 1 && words[n-1] == last {
		return slices.Contains(others, words[n-2])
	}
	return slices.Contains(others, rest)
}

// splitWords returns the words of camelCase, snake_case, kebab-case and
// HTTPNames, in lower case.
func splitWords(name string) []string {
	var words []string
	var word []rune
	end := func() {
		if len(word) > 0 {
			words = append(words, strings.ToLower(string(word)))
			word = nil
		}
	}
	runes := []rune(name)
	for i, r := range runes {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			end()
			continue
		}
		if i > 0 && unicode.IsUpper(r) {
			afterLower := !unicode.IsUpper(runes[i-1])
			beforeLower := i+1 < len(runes) && unicode.IsLower(runes[i+1])
			if afterLower || beforeLower {
				end()
			}
		}
		word = append(word, r)
	}
	end()
	return words
}
