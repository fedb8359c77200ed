package daemon

import (
	"fmt"
	"testing"

	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
)

// BenchmarkMayCall is what every call asks of the catalog first, of a plugin
// with few tools and of one with as many as there may be.
func BenchmarkMayCall(b *testing.B) {
	for _, tools := range []int{10, 1000} {
		c := &catalog{installed: map[plugin.Key]plugin.Installed{}, offers: map[plugin.Key]offer{}, files: map[string]tenantConfig{}}
		p := plugin.Installed{Key: demo}
		allowed := policy.Effective{Registered: map[string]bool{}}
		for i := range tools {
			name := fmt.Sprintf("a_tool_with_a_name_%d", i)
			p.Surface.Registrations = append(p.Surface.Registrations, plugin.Registration{Kind: plugin.KindTool, Name: name})
			allowed.Registered["tool:"+name] = true
		}
		c.put(p)
		c.offer(demo, allowed)
		last := fmt.Sprintf("a_tool_with_a_name_%d", tools-1)
		b.Run(fmt.Sprintf("tools=%d", tools), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := c.mayCall(demo, last); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
