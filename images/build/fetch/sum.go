package fetch

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
)

// Sum is the digest that a file must have.
type Sum struct {
	Algorithm string // "sha256" or "sha512"
	Hex       string // lower case
}

// Integrity parses npm's form of a digest, "sha512-<base64>". Weaker
// algorithms are refused.
func Integrity(s string) (Sum, error) {
	encoded, ok := strings.CutPrefix(s, "sha512-")
	if !ok {
		return Sum{}, fmt.Errorf("cannot use %q as an integrity: only sha512 is taken: %w", s, errdefs.ErrInvalidArgument)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return Sum{}, fmt.Errorf("cannot use %q as an integrity: %w: %w", s, err, errdefs.ErrInvalidArgument)
	}
	sum := Sum{Algorithm: "sha512", Hex: hex.EncodeToString(b)}
	return sum, sum.validate()
}

// SHA256 is the Sum with the given hex digits.
func SHA256(hex string) Sum { return Sum{Algorithm: "sha256", Hex: hex} }

// Check fails with DataLoss unless b has the digest.
func (s Sum) Check(b []byte) error {
	got := ""
	switch s.Algorithm {
	case "sha256":
		sum := sha256.Sum256(b)
		got = hex.EncodeToString(sum[:])
	case "sha512":
		sum := sha512.Sum512(b)
		got = hex.EncodeToString(sum[:])
	}
	if got == "" || got != s.Hex {
		return fmt.Errorf("its %s is %s instead of %s: %w", s.Algorithm, got, s.Hex, errdefs.ErrDataLoss)
	}
	return nil
}

// validate makes sure that the sum can name a file in the cache.
func (s Sum) validate() error {
	size, ok := map[string]int{"sha256": sha256.Size, "sha512": sha512.Size}[s.Algorithm]
	b, err := hex.DecodeString(s.Hex)
	if !ok || err != nil || len(b) != size || strings.ToLower(s.Hex) != s.Hex {
		return fmt.Errorf("cannot use %s:%s as a digest: %w", s.Algorithm, s.Hex, errdefs.ErrInvalidArgument)
	}
	return nil
}
