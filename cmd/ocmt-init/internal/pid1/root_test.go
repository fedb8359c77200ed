package pid1

import "testing"

// TestRootIsRefused stops short of cleaning anything, whatever comes of it.
func TestRootIsRefused(t *testing.T) {
	for _, dir := range []string{"/", "/..", "//", "/tmp/../"} {
		if c, err := newCleaner(dir); err == nil {
			c.top.Close()
			t.Errorf("newCleaner(%q) would clean the root directory", dir)
		}
	}
}
