package containerd

import (
	"fmt"

	profiles "github.com/containerd/containerd/v2/contrib/apparmor"
	"github.com/containerd/containerd/v2/pkg/apparmor"
)

// appArmorProfile is the name under which containerd's default profile is
// loaded, where the kernel has AppArmor.
const appArmorProfile = "ocmt-default"

// loadAppArmor returns the profile for containers, none where the kernel does
// not have AppArmor, and what is wrong where it has and the profile cannot be
// loaded: the other layers of the hardening do not depend on it.
func loadAppArmor() (profile, warning string) {
	if !apparmor.HostSupports() {
		return "", ""
	}
	if err := profiles.LoadDefaultProfile(appArmorProfile); err != nil {
		return "", fmt.Sprintf("the kernel has AppArmor, and the profile %s cannot be loaded, which needs root and the program apparmor_parser: %v", appArmorProfile, err)
	}
	return appArmorProfile, ""
}
