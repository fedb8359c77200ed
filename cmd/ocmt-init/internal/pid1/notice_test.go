package pid1

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

func TestNoticeLines(t *testing.T) {
	notGranted := link.Denied{Code: link.NotGranted, Message: "this host and port are not granted"}
	tests := map[string]struct {
		plugin, tenant string
		target         link.Grant
		why            link.Denied
		want           string
	}{
		"a name": {"weather", "default", link.Grant{Host: "api.example.com"}, notGranted,
			"ocmt: network: api.example.com:443 is not granted; to allow it: ocmt plugins grant weather network api.example.com:443\n"},
		"a port": {"weather", "", link.Grant{Host: "api.example.com", Port: 8443}, notGranted,
			"ocmt: network: api.example.com:8443 is not granted; to allow it: ocmt plugins grant weather network api.example.com:8443\n"},
		"a tenant": {"weather", "acme", link.Grant{Host: "api.example.com", Port: 443}, notGranted,
			"ocmt: network: api.example.com:443 is not granted; to allow it: ocmt plugins grant weather network api.example.com:443 --tenant acme\n"},
		"no plugin": {"", "", link.Grant{Host: "api.example.com", Port: 443}, notGranted,
			"ocmt: network: api.example.com:443 is not granted\n"},
		"another reason": {"weather", "", link.Grant{Host: "api.example.com", Port: 443},
			link.Denied{Code: link.AddressRefused, Message: "no \x1b[31maddress\n here"},
			"ocmt: network: api.example.com:443 was refused: no [31maddress here (address_refused)\n"},
		"control characters": {"weather", "", link.Grant{Host: "a\x1b[2Jb.example.com", Port: 443}, notGranted, ""},
		"line end":           {"weather", "", link.Grant{Host: "a.test\nocmt: fine", Port: 443}, notGranted, ""},
	}
	for name, tt := range tests {
		var got strings.Builder
		newNotices(&got, tt.plugin, tt.tenant).refused(tt.target, tt.why)
		if got.String() != tt.want {
			t.Errorf("%s: wrote %q, want %q", name, got.String(), tt.want)
		}
	}
}

func TestNoticesAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got strings.Builder
		n := newNotices(&got, "weather", "acme")
		refuse := func(host string) {
			n.refused(link.Grant{Host: host}, link.Denied{Code: link.NotGranted})
		}
		lines := func() int { return strings.Count(got.String(), "\n") }
		for range 5 {
			refuse("a.test")
		}
		if lines() != 1 {
			t.Errorf("one refusal is told %d times", lines())
		}
		for i := range 1000 {
			refuse(fmt.Sprintf("h%d.test", i))
		}
		if !strings.HasSuffix(got.String(), "ocmt network log weather --tenant acme\n") || lines() != noticesPerWindow+1 {
			t.Errorf("a flood wrote\n%s", got.String())
		}
		<-time.After(noticeWindow)
		refuse("a.test") // told already
		refuse("b.test")
		if lines() != noticesPerWindow+2 {
			t.Errorf("a minute later %d lines were written", lines())
		}
		for range maxNoticed {
			<-time.After(noticeWindow / noticesPerWindow)
			refuse(fmt.Sprintf("slow%d.test", lines()))
		}
		if len(n.last) > maxNoticed {
			t.Errorf("%d refusals are remembered", len(n.last))
		}
		<-time.After(noticeAgain)
		before := lines()
		refuse("a.test")
		if lines() != before+1 {
			t.Error("it is not told again later")
		}
	})
}
