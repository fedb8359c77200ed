package policy

import (
	"regexp"
	"strings"
)

// certain are shapes that only secrets have.
var certain = regexp.MustCompile(strings.Join([]string{
	`-----BEGIN [A-Z0-9 ]*PRIVATE KEY`,
	`LS0tLS1CRUdJTi`, // "-----BEGIN" in base64
	`AGE-SECRET-KEY-(PQ-)?1`,
	`://[^\s/@]*:[^\s/@]+@`, // a URL with a password
	`://hooks\.slack(-gov)?\.com/(services|workflows|triggers)/[^\s]`, // URLs that are credentials
	`://([a-z]+\.)?discord(app)?\.com/api/(v[0-9]+/)?webhooks/[^\s]`,
	`://[a-z0-9.-]+\.webhook\.office\.com/[^\s]`,
	`(?i)\b(password|passwd|passphrase|pwd|accountkey|sharedaccesskey|shared_?secret|client_?secret|api_?key|access_?token|auth_?token|refresh_?token)=[^\s;&]`,
	`(?i)[?&;#](token|secret|key|sig|signature|x-amz-signature|code|auth|jwt)=[^\s;&]{8,}`,
}, "|"))

// likely are shapes that ordinary words have as well; a match counts if it is
// dense. They begin as the keys of a service do, most of which are longer than
// is asked for here.
var likely = regexp.MustCompile(strings.Join([]string{
	`\bsk-[A-Za-z0-9_-]{8,}`,                // OpenAI, Anthropic and others
	`\b(sk|rk)_(live|test)_[A-Za-z0-9]{8,}`, // Stripe
	`\bwhsec_[A-Za-z0-9+/=]{16,}`,
	`\bgh[pousr]_[A-Za-z0-9]{8,}`, // GitHub
	`\bgithub_pat_[A-Za-z0-9_]{8,}`,
	`\bgl(pat|dt|rt|ptt|soat|cbt|oas|ft|imt|agent)-[A-Za-z0-9_.-]{8,}`, // GitLab
	`\bxox[a-z](\.[a-z]+)?-[A-Za-z0-9-]{8,}`,                           // Slack
	`\bxapp-[A-Za-z0-9-]{8,}`,
	`\b(AKIA|ASIA)[A-Z0-9]{12,}`, // Amazon
	`\bAIza[A-Za-z0-9_-]{16,}`,   // Google
	`\bya29\.[A-Za-z0-9_-]{16,}`,
	`\bGOCSPX-[A-Za-z0-9_-]{16,}`,
	`\bnpm_[A-Za-z0-9]{16,}`,
	`\bpypi-[A-Za-z0-9_-]{16,}`,
	`\bdckr_(pat|oat)_[A-Za-z0-9_-]{8,}`,
	`\bdop_v1_[a-f0-9]{16,}`,
	`\bhf_[A-Za-z0-9]{16,}`,
	`\b(gsk|xai|r8|pplx|tvly|fc|ntn|secret|lin_api|shpat|shpss|sntrys|rpa)[_-][A-Za-z0-9_-]{20,}`,
	`\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}`, // SendGrid
	`\bBSA[A-Za-z0-9_-]{20,}`,                                           // Brave
	`\b[0-9]{8,10}:[A-Za-z0-9_-]{30,}`,                                  // Telegram
	`\b[MNO][A-Za-z0-9_-]{22,30}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{20,}`, // Discord
	`\bey[JK][A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{3,}\.[A-Za-z0-9_-]*`,      // JWT
	`(?i)\b(bearer|basic)[ \t]+[A-Za-z0-9._~+/=-]{8,}`,                  // the value of an Authorization header
	`://[^\s/@:]{16,}@`,                                                 // a URL with a token for a user
}, "|"))

// minDense is how long, in bytes, a run of letters without a digit must be to
// be no word.
const minDense = 24

// looksSecret reports whether a text holds a secret, by its shape.
func looksSecret(text string) bool {
	if certain.MatchString(text) {
		return true
	}
	for _, match := range likely.FindAllString(text, -1) {
		if len(match) >= minDense || strings.ContainsAny(match, "0123456789") {
			return true
		}
	}
	return false
}

// longRun is what the secret part of a URL looks like.
var longRun = regexp.MustCompile(`[A-Za-z0-9_-]{16,}`)

// carriesToken reports whether a text is a URL with a part after its host that
// looks made by a machine.
func carriesToken(text string) bool {
	_, rest, ok := strings.Cut(text, "://")
	if !ok {
		return false
	}
	at := strings.IndexAny(rest, "/?#")
	if at < 0 {
		return false
	}
	for _, run := range longRun.FindAllString(rest[at:], -1) {
		if strings.ContainsAny(run, "0123456789") || len(run) >= minDense {
			return true
		}
	}
	return false
}
