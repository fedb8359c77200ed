package fetch

import (
	"context"
	"encoding/hex"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/ocmt/ocmt/orchestrator/install/verify"
)

// contents is where npm keeps what it downloaded, by content:
// <algorithm>/<2 hex digits>/<2>/<the rest>.
const contents = "cache/_cacache/content-v2"

// cache finds tarballs in npm's cache. What it returns still has to be
// verified: the directory was npm's to write.
type cache struct {
	work *os.Root
	// byDigest holds, per algorithm, the files by that digest in hexadecimal.
	byDigest map[string]map[string]string
}

// open returns the file for an integrity; fs.ErrNotExist when there is none.
func (c *cache) open(ctx context.Context, integrity string) (*os.File, error) {
	parsed, err := verify.ParseIntegrity(integrity)
	if err != nil {
		return nil, err
	}
	for _, digest := range parsed.Hex() {
		name := path.Join(contents, parsed.Algorithm, digest[:2], digest[2:4], digest[4:])
		if f, err := verify.OpenFile(c.work, name); err == nil {
			return f, nil
		}
	}
	// npm stores by sha512 whatever the lockfile names.
	files, err := c.index(ctx, parsed)
	if err != nil {
		return nil, err
	}
	for _, digest := range parsed.Hex() {
		if name, ok := files[digest]; ok {
			return verify.OpenFile(c.work, name)
		}
	}
	return nil, fs.ErrNotExist
}

// index hashes every file of the cache with the algorithm of an integrity.
func (c *cache) index(ctx context.Context, i verify.Integrity) (map[string]string, error) {
	if files, ok := c.byDigest[i.Algorithm]; ok {
		return files, nil
	}
	files := map[string]string{}
	err := fs.WalkDir(c.work.FS(), contents, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // what cannot be read is not there
		}
		f, err := verify.OpenFile(c.work, name)
		if err != nil {
			return nil
		}
		defer f.Close()
		v := i.NewVerifier()
		if _, err := io.Copy(v, f); err == nil {
			files[hex.EncodeToString(v.Sum(nil))] = name
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	if c.byDigest == nil {
		c.byDigest = map[string]map[string]string{}
	}
	c.byDigest[i.Algorithm] = files
	return files, nil
}
