package plugin

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestChecks(t *testing.T) {
	checks := map[string]func(string) error{"id": CheckID, "tool": CheckToolName, "tenant": CheckTenant, "package": CheckPackageName}
	tests := []struct {
		check, in string
		ok        bool
	}{
		{"id", "a-b_C9", true}, {"id", strings.Repeat("a", MaxIDLen), true}, {"id", strings.Repeat("a", MaxIDLen+1), false},
		{"id", "", false}, {"id", "-a", false}, {"id", "a/b", false}, {"id", "..", false}, {"id", "a b", false}, {"id", "a.b", false}, {"id", "a\n", false},
		{"tool", "my_tool", true}, {"tool", strings.Repeat("a", MaxToolLen), true}, {"tool", strings.Repeat("a", MaxToolLen+1), false}, {"tool", "a.b", false},
		{"tenant", "team-1", true}, {"tenant", "Team", false}, {"tenant", "a_b", false}, {"tenant", "-a", false}, {"tenant", "a-", false},
		{"tenant", strings.Repeat("a", MaxTenantLen+1), false},
		{"package", "@a/b.c", true}, {"package", "JSONStream", true}, {"package", "node_modules", false}, {"package", "a/b", false}, {"package", "@a/b/c", false},
		{"package", "-x", false}, {"package", ".x", false}, {"package", "..", false}, {"package", "@a/..", false}, {"package", "", false},
		{"package", strings.Repeat("a", MaxPackageNameLen), true}, {"package", strings.Repeat("a", MaxPackageNameLen+1), false},
	}
	for _, tt := range tests {
		err := checks[tt.check](tt.in)
		if (err == nil) != tt.ok || (err != nil && !errdefs.IsInvalidArgument(err)) {
			t.Errorf("check %s of %.20q = %v, want ok %v", tt.check, tt.in, err, tt.ok)
		}
	}
}
