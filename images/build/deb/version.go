package deb

import (
	"cmp"
	"strings"
)

// Compare orders two versions as dpkg does (deb-version(7)): negative when a
// is older than b, positive when it is newer.
func Compare(a, b string) int {
	aEpoch, a := epoch(a)
	bEpoch, b := epoch(b)
	if c := compareDigits(aEpoch, bEpoch); c != 0 {
		return c
	}
	aUpstream, aRevision := revision(a)
	bUpstream, bRevision := revision(b)
	if c := compareParts(aUpstream, bUpstream); c != 0 {
		return c
	}
	return compareParts(aRevision, bRevision)
}

func epoch(v string) (epoch, rest string) {
	if e, rest, ok := strings.Cut(v, ":"); ok {
		return e, rest
	}
	return "", v
}

func revision(v string) (upstream, revision string) {
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		return v[:i], v[i+1:]
	}
	return v, ""
}

// compareParts compares alternating runs of other characters and of digits.
func compareParts(a, b string) int {
	for a != "" || b != "" {
		aText, aRest := span(a, false)
		bText, bRest := span(b, false)
		if c := compareText(aText, bText); c != 0 {
			return c
		}
		var aDigits, bDigits string
		aDigits, a = span(aRest, true)
		bDigits, b = span(bRest, true)
		if c := compareDigits(aDigits, bDigits); c != 0 {
			return c
		}
	}
	return 0
}

// span cuts the longest start of s that is all digits, or has none.
func span(s string, digits bool) (start, rest string) {
	for i := range len(s) {
		if isDigit(s[i]) != digits {
			return s[:i], s[i:]
		}
	}
	return s, ""
}

func compareText(a, b string) int {
	for i := range max(len(a), len(b)) {
		if c := cmp.Compare(weight(a, i), weight(b, i)); c != 0 {
			return c
		}
	}
	return 0
}

// weight orders the character at i: a tilde before the end, the end before
// letters, letters before everything else.
func weight(s string, i int) int {
	switch {
	case i >= len(s):
		return 0
	case s[i] == '~':
		return -1
	case s[i] >= 'a' && s[i] <= 'z', s[i] >= 'A' && s[i] <= 'Z':
		return int(s[i])
	}
	return int(s[i]) + 256
}

// compareDigits compares numbers of any length.
func compareDigits(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if c := cmp.Compare(len(a), len(b)); c != 0 {
		return c
	}
	return cmp.Compare(a, b)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
