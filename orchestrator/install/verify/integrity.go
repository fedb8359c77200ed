// Package verify decides what of a package may be used: it checks bytes
// against Subresource Integrity strings, lockfiles against the rules of an
// install (registry tarballs with an integrity, nothing else), and it unpacks
// archives without letting them leave their directory or grow beyond bounds.
//
// All that it reads is hostile.
package verify

import (
	"bytes"
	"crypto/sha1" // old packages have nothing stronger
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// algorithms, strongest first.
var algorithms = []struct {
	name string
	size int
	new  func() hash.Hash
}{
	{"sha512", sha512.Size, sha512.New},
	{"sha384", sha512.Size384, sha512.New384},
	{"sha256", sha256.Size, sha256.New},
	{"sha1", sha1.Size, sha1.New},
}

// Integrity is a parsed Subresource Integrity string: of its strongest
// algorithm, the digests of which one must match.
type Integrity struct {
	// Algorithm is "sha512", "sha384", "sha256" or "sha1".
	Algorithm string
	sums      [][]byte
	new       func() hash.Hash
}

// ParseIntegrity reads "sha512-<base64>", several of them separated by white
// space, each perhaps with "?options". Unknown algorithms are ignored, as the
// standard says; a string without a known one is refused. InvalidArgument.
func ParseIntegrity(s string) (Integrity, error) {
	found := map[string][][]byte{}
	for _, token := range strings.Fields(s) {
		name, value, _ := strings.Cut(token, "-")
		value, _, _ = strings.Cut(value, "?")
		for _, a := range algorithms {
			if a.name != name {
				continue
			}
			sum, err := base64.StdEncoding.Strict().DecodeString(value)
			if err != nil || len(sum) != a.size {
				return Integrity{}, fmt.Errorf("the integrity %.120q is no %s digest in base64: %w", token, name, errdefs.ErrInvalidArgument)
			}
			found[name] = append(found[name], sum)
		}
	}
	for _, a := range algorithms {
		if sums := found[a.name]; sums != nil {
			return Integrity{Algorithm: a.name, sums: sums, new: a.new}, nil
		}
	}
	return Integrity{}, fmt.Errorf("the integrity %.120q has no digest of sha512, sha384, sha256 or sha1: %w", s, errdefs.ErrInvalidArgument)
}

// Hex returns the digests in hexadecimal.
func (i Integrity) Hex() []string {
	list := make([]string, len(i.sums))
	for n, sum := range i.sums {
		list[n] = hex.EncodeToString(sum)
	}
	return list
}

// Verifier hashes what is written to it.
type Verifier struct {
	hash.Hash
	want [][]byte
	name string
}

// NewVerifier returns a verifier that has seen no byte yet.
func (i Integrity) NewVerifier() *Verifier {
	return &Verifier{Hash: i.new(), want: i.sums, name: i.Algorithm}
}

// Verify reports whether the bytes that were written are those that the
// integrity names. DataLoss.
func (v *Verifier) Verify() error {
	got := v.Sum(nil)
	for _, want := range v.want {
		if bytes.Equal(got, want) {
			return nil
		}
	}
	encode := base64.StdEncoding.EncodeToString
	return fault.New(errdefs.ErrDataLoss, "integrity", "the integrity does not match: expected %s-%s, found %s-%s",
		v.name, encode(v.want[0]), v.name, encode(got)).
		WithHint("the package was changed on its way, or the lockfile is wrong: do not install it before you know which")
}
