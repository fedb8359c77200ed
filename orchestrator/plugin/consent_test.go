package plugin

import (
	"os"
	"strings"
	"testing"
)

func TestWarning(t *testing.T) {
	want, err := os.ReadFile("testdata/warning.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got := Warning(SourceNPM, "some-plugin") + "\n"; got != string(want) {
		t.Errorf("warning = %q, want the document's %q", got, want)
	}
	if got := Warning(SourceArchive, "a\x1b[2J\nb"); !strings.Contains(got, "from an archive: a[2J b\n") {
		t.Errorf("warning = %q", got)
	}
	for source, want := range map[Source]bool{SourceNPM: true, SourceArchive: true, SourcePath: false, "": true} {
		if NeedsConfirmation(source) != want {
			t.Errorf("NeedsConfirmation(%q) = %v, want %v", source, !want, want)
		}
	}
}
