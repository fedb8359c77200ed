package deb

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
)

// Stanza is one paragraph of a Debian control file: field to value. The lines
// of a folded value are separated by newlines, without their indentation.
type Stanza map[string]string

// Stanzas reads a control file (a Packages index, a Release file, the control
// file of a package, a .sources file of apt) and calls visit for each stanza.
func Stanzas(b []byte, visit func(Stanza) error) error {
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(make([]byte, 64<<10), 4<<20)
	stanza, last := Stanza{}, ""
	flush := func() error {
		if len(stanza) == 0 {
			return nil
		}
		done := stanza
		stanza, last = Stanza{}, ""
		return visit(done)
	}
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.TrimSpace(line) == "":
			if err := flush(); err != nil {
				return err
			}
		case line[0] == ' ' || line[0] == '\t':
			if last == "" {
				return fmt.Errorf("cannot read %q: it continues no field: %w", line, errdefs.ErrInvalidArgument)
			}
			stanza[last] = strings.TrimPrefix(stanza[last]+"\n"+strings.TrimSpace(line), "\n")
		default:
			field, value, ok := strings.Cut(line, ":")
			if !ok || field == "" {
				return fmt.Errorf("cannot read %q: it is no field: %w", line, errdefs.ErrInvalidArgument)
			}
			last = field
			stanza[field] = strings.TrimSpace(value)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("cannot read the control file: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return flush()
}

// One returns the first stanza of b.
func One(b []byte) (Stanza, error) {
	var first Stanza
	err := Stanzas(b, func(s Stanza) error {
		if first == nil {
			first = s
		}
		return nil
	})
	if err == nil && first == nil {
		err = fmt.Errorf("cannot read the control file: it is empty: %w", errdefs.ErrInvalidArgument)
	}
	return first, err
}
