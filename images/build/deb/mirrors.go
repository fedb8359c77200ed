package deb

import (
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Archive is one of the two trees that Debian publishes packages in.
type Archive string

// The archives. The name is the last element of a mirror's address.
const (
	Main     Archive = "debian"
	Security Archive = "debian-security"
)

// Mirrors returns the addresses under which the apt configuration in etcApt
// (/etc/apt) reaches the archive, in the configuration's order and without a
// slash at the end, and Debian's own address last. A file that cannot be read
// or parsed is left out: mirrors are only a means to files that are verified
// by digest or signature.
func Mirrors(etcApt string, archive Archive) []string {
	lists, _ := filepath.Glob(filepath.Join(etcApt, "sources.list.d", "*"))
	var uris []string
	for _, file := range append([]string{filepath.Join(etcApt, "sources.list")}, lists...) {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		switch filepath.Ext(file) {
		case ".list":
			uris = append(uris, listURIs(b)...)
		case ".sources":
			uris = append(uris, sourcesURIs(b)...)
		}
	}
	uris = append(uris, "https://deb.debian.org/"+string(archive))
	var mirrors []string
	for _, uri := range uris {
		uri = strings.TrimRight(uri, "/")
		if serves(uri, archive) && !slices.Contains(mirrors, uri) {
			mirrors = append(mirrors, uri)
		}
	}
	return mirrors
}

// serves says whether uri is a mirror of the archive that can be reached over
// HTTP.
func serves(uri string, archive Archive) bool {
	u, err := url.Parse(uri)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" &&
		path.Base(u.Path) == string(archive)
}

// listURIs reads apt's one-line form: deb [options] URI suite component...
func listURIs(b []byte) []string {
	var uris []string
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		rest, ok := strings.CutPrefix(strings.ReplaceAll(strings.TrimSpace(line), "\t", " "), "deb ")
		if !ok {
			continue
		}
		rest = strings.TrimSpace(rest)
		if strings.HasPrefix(rest, "[") {
			if _, rest, ok = strings.Cut(rest, "]"); !ok {
				continue
			}
		}
		if fields := strings.Fields(rest); len(fields) >= 2 {
			uris = append(uris, fields[0])
		}
	}
	return uris
}

// sourcesURIs reads apt's stanza form.
func sourcesURIs(b []byte) []string {
	var uris []string
	err := Stanzas(b, func(s Stanza) error {
		if slices.Contains(strings.Fields(s["Types"]), "deb") && s["Enabled"] != "no" {
			uris = append(uris, strings.Fields(s["URIs"])...)
		}
		return nil
	})
	if err != nil {
		return nil
	}
	return uris
}
