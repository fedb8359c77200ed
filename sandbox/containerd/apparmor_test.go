package containerd

import (
	"strings"
	"testing"

	profiles "github.com/containerd/containerd/v2/contrib/apparmor"
	"github.com/containerd/containerd/v2/pkg/apparmor"

	"github.com/ocmt/ocmt/sandbox"
)

// TestAppArmor looks at the profile of containers, which they have on a host
// that can have one, and at what the profile says.
func TestAppArmor(t *testing.T) {
	profile, warning := loadAppArmor()
	switch supported := apparmor.HostSupports(); {
	case !supported && (profile != "" || warning != ""):
		t.Errorf("the host has no AppArmor, and there is profile %q, warning %q", profile, warning)
	case supported && profile == "" && !strings.Contains(warning, "apparmor_parser"):
		t.Errorf("the host has AppArmor, and neither profile nor warning: %q", warning)
	}
	for _, want := range []string{"", appArmorProfile} {
		spec := sandbox.Harden(sandbox.Spec{ID: "ocmt-x", Args: []string{"/probe"}, Limits: sandbox.LimitsFor(sandbox.RolePlugin)})
		got, err := ociSpec(&spec, &host{appArmor: want})
		if err != nil || got.Process.ApparmorProfile != want {
			t.Errorf("profile %+v, %v, want %q", got, err, want)
		}
	}
	weak := host{appArmorWarning: "cannot be loaded"}
	if got := weak.warnings(nil); len(got) == 0 || got[len(got)-1] != "cannot be loaded" {
		t.Errorf("warnings %q", got)
	}
	text, err := profiles.DumpDefaultProfile(appArmorProfile)
	if err != nil {
		t.Skipf("the profile's text cannot be made here: %v", err)
	}
	for _, rule := range []string{"deny mount,", "deny @{PROC}/kcore rwklx,", "deny /sys/firmware/** rwklx,"} {
		if !strings.Contains(text, rule) {
			t.Errorf("the profile does not say %q:\n%s", rule, text)
		}
	}
}
