package plugin

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

func TestTrustOf(t *testing.T) {
	for source, want := range map[Source]Trust{
		SourceNPM: TrustNPM, SourcePath: TrustPath, SourceArchive: TrustArchive, "": TrustArchive, "built-in": TrustArchive,
	} {
		got := TrustOf(source)
		if got != want {
			t.Errorf("%q has level %s, want %s", source, got, want)
		}
		if level := got.Level(); level.Trust != want || level.Confirm != NeedsConfirmation(source) {
			t.Errorf("%q: level %+v, and an install needs a confirmation: %v", source, level, NeedsConfirmation(source))
		}
	}
}

func TestLevels(t *testing.T) {
	var names []Trust
	for _, l := range Levels() {
		names = append(names, l.Trust)
		if r := l.Resources; r.Memory < 64<<20 || r.CPUs <= 0 || r.PIDs < 16 {
			t.Errorf("%s: no plugin runs with %+v", l.Trust, r)
		}
		if got := l.Trust.Level(); got != l {
			t.Errorf("%s has level %+v, want %+v", l.Trust, got, l)
		}
	}
	if diff := cmp.Diff([]Trust{TrustBuiltIn, TrustVerified, TrustPath, TrustNPM, TrustArchive}, names); diff != "" {
		t.Errorf("levels (-want +got):\n%s", diff)
	}
	if got := Trust("root").Level(); got.Trust != TrustArchive {
		t.Errorf("a level that is none is %+v", got)
	}
}

func TestParseRequirements(t *testing.T) {
	every := func(runtime string) map[Trust]string {
		return map[Trust]string{TrustBuiltIn: runtime, TrustVerified: runtime, TrustNPM: runtime, TrustPath: runtime, TrustArchive: runtime}
	}
	butPath := every("runsc")
	butPath[TrustPath] = "runc"
	for text, want := range map[string]map[Trust]string{
		"":                        {},
		"npm=runsc":               {TrustNPM: "runsc"},
		"npm=runsc archive=runsc": {TrustNPM: "runsc", TrustArchive: "runsc"},
		"npm=runsc npm=runsc":     {TrustNPM: "runsc"},
		"all=runsc":               every("runsc"),
		"all=runsc path=runc":     butPath,
		"path=runc all=runsc":     butPath,
		"path=kata-v1.2_x":        {TrustPath: "kata-v1.2_x"},
	} {
		got, err := ParseRequirements(strings.Fields(text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

func TestParseRequirementsRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"npm":                "names no runtime",
		"npm=":               "names no runtime",
		"=runsc":             "does not exist",
		"NPM=runsc":          "does not exist",
		"root=runsc":         "does not exist",
		"npm=/usr/bin/runsc": "names no runtime",
		"npm=runsc=runc":     "names no runtime",
		"npm=-runsc":         "names no runtime",
		"npm=runsc npm=runc": "required to use runsc and runc",
		"all=runsc all=runc": "required to use runsc and runc",
		"npm=runsc\x00":      "names no runtime",
	} {
		got, err := ParseRequirements(strings.Fields(text))
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want) || !strings.Contains(fault.Of(err).Hint, "LEVEL=RUNTIME") {
			t.Errorf("%q: %v, %v, want %q", text, got, err, want)
		}
	}
}

func FuzzParseRequirements(f *testing.F) {
	for _, seed := range []string{"npm=runsc", "all=runc", "=", "a=b=c", "archive=\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseRequirements([]string{text})
		if (err == nil) != (len(got) > 0) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
		for level, runtime := range got {
			if level.Level().Trust != level || !runtimePattern.MatchString(runtime) {
				t.Errorf("%q: %q for %q", text, runtime, level)
			}
		}
	})
}
