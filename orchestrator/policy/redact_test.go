package policy

import (
	"strings"
	"testing"
)

func TestNamesOfSecrets(t *testing.T) {
	kinds := map[nameKind]string{
		secretName: `apiKey api_key API-KEY apikey APIKEY openaiApiKey OPENAI_API_KEY OpenAIAPIKey apiKeys apiKey2 API_KEY_1 apiKeyOld
			token Token botToken bot_token bottoken accessToken access-token ACCESS_TOKEN authToken refreshToken tokens tokenValue
			backendToken contextToken idTokens secret secrets clientSecret client_secret CLIENTSECRET webhookSecret secretValue signingSecret
			password Password dbPassword db_password passwords passwordHash PASSWD pwd DB_PWD pass smtp.pass passphrase passcode
			credential credentials awsCredentials creds authorization Authorization proxyAuthorization cookie cookies sessionCookie
			privateKey private_key PRIVATE_KEY privateKeyPem privatekey accessKey awsAccessKeyId secretAccessKey secretKey SECRET_KEY_BASE
			signingKey encryptionKey masterKey sharedKey hmacKey sshKey deployKey subscriptionKey dsn SENTRY_DSN sentryDsn
			connectionString connection_string azureConnectionString jwt serviceRoleKey`,
		webhookName: `webhook webhookUrl webhook_url WEBHOOK_URL slackWebhook webhooks slackWebhookURL`,
		ordinaryName: `maxTokens max_tokens MAX_TOKENS maxtokens maxOutputTokens max_output_tokens contextTokens tokenLimit tokensPerMinute
			inputTokens totalTokens reserveTokens stopToken padToken eos_token tokenizer tokenUrl tokenEndpoint tokenFile tokenType
			tokenSource publicKey public_key keyboard key keys keyName monkey primaryKey sortKey cacheKey sessionKey hotkey secretary secretName
			secretRef passwordPolicy passwordFile passwordless apiKeyEnv apiKeyName cookieName cookieDomain authorizationUrl credentialHelper
			webhookPath webhookPort webhookEnabled privateKeyPath connectionStringName compass bypass pattern model name url auth mode
			enabled id "" 0 12 _ - desn dnsn`,
	}
	for want, names := range kinds {
		for _, name := range strings.Fields(names) {
			name = strings.Trim(name, `"`)
			if got := kindOfName(name); got != want {
				t.Errorf("kindOfName(%q) = %d, want %d", name, got, want)
			}
		}
	}
}

// Keys in tests are put together, so that nobody who looks for lost keys finds
// these.
const (
	filler = "Abcdefghij0123456789abcdefghij0123456789"
	dots   = "-----"
)

func secretTexts() []string {
	return []string{
		"sk-" + filler, "sk-ant-api03-" + filler, "sk-proj-" + filler, "sk-12345678", "sk_live_" + filler, "rk_test_" + filler, "whsec_" + filler,
		"ghp_" + filler, "gho_" + filler, "ghs_" + filler, "github_pat_11" + filler, "glpat-" + filler[:20], "gldt-" + filler,
		"xoxb-1234567890-" + filler, "xoxp-1-" + filler, "xoxa-2-" + filler, "xoxe.xoxp-1-" + filler, "xapp-1-" + filler,
		"AKIA" + "IOSFODNN7EXAMPLE", "ASIA" + "IOSFODNN7EXAMPLE", "AIza" + filler[:35], "ya29." + filler, "GOCSPX-" + filler,
		"npm_" + filler[:36], "pypi-" + filler, "dckr_pat_" + filler, "dop_v1_" + "0123456789abcdef0123", "hf_" + filler, "gsk_" + filler, "xai-" + filler,
		"tvly-" + filler, "SG." + filler[:22] + "." + filler, "BSA" + filler[:27], "12345678:" + filler[:35],
		"M" + filler[:23] + ".Gabcde." + filler, "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.", "eyJhbGciOiJIUzI1NiJ9." + filler + "." + filler,
		dots + "BEGIN PRIVATE KEY" + dots + "\nAA==\n", dots + "BEGIN RSA PRIVATE KEY" + dots, dots + "BEGIN OPENSSH PRIVATE KEY" + dots,
		dots + "BEGIN PGP PRIVATE KEY BLOCK" + dots, "LS0tLS1CRUdJTi" + "BQUklWQVRF", "AGE-SECRET-KEY-1" + "QQQQ",
		"https://user:hunter2@example.com/x", "postgres://app:p%40ss@db:5432/app", "redis://:hunter2@cache:6379", "mongodb+srv://u:p@cluster.example/x",
		"https://" + filler[:24] + "@example.com/x.git", "amqp://guest:guest@localhost",
		"Bearer " + filler, "bearer abcdef12", "Authorization: Bearer " + filler, "Basic dXNlcjpodW50ZXIy", "curl -H 'x: sk-" + filler + "' https://a.example",
		"https://hooks.slack.com/services/T000/B000/x", "https://discord.com/api/webhooks/1/x", "https://canary.discordapp.com/api/v10/webhooks/1/x",
		"https://a.example/x?api_key=abc", "https://a.example/x?access_token=abc", "https://a.example/x?a=1&token=abcdefgh", "https://a.example/blob?sv=1&sig=abcdefgh%3D",
		"Server=db;User Id=app;Password=hunter2;", "AccountName=a;AccountKey=YQ==;", "export API_KEY=abc",
	}
}

func TestShapesOfSecrets(t *testing.T) {
	for _, text := range secretTexts() {
		for _, in := range []string{text, "  " + text + "\n", `say "` + text + `" please`} {
			if !looksSecret(in) {
				t.Errorf("%q does not look like a secret", in)
			}
		}
	}
	for _, text := range []string{
		"", " ", "gpt-5", "claude-opus-4", "sk", "sk-SK", "sk-learn", "sk-learn-examples", "task-management-2024", "risk-12345678", "desk-reservation1",
		"npm_config", "npm_lifecycle_event", "@acme/echo@1.2.3", "hf_hub", "AKIA", "AIza", "xoxb", "ghp_", "eyJ", "ey.a.b", "node:24",
		"https://example.com", "https://example.com:8443/a/b?c=d", "http://localhost:3000/", "https://example.com/@scope/pkg", "https://registry.example:443/@a/b",
		"user@example.com", "mailto:user@example.com", "ssh://git@example.com/x.git", "git@github.com:acme/x.git",
		"Bearer", "the bearer of news", "basic authentication", "bearer authentication", "Bearer token", "token",
		dots + "BEGIN PUBLIC KEY" + dots, dots + "BEGIN CERTIFICATE" + dots, "agent:main:main", "12:30", "10:00-18:00", "2026-01-02T03:04:05Z",
		"/home/user/.openclaw", "~/.ssh/id_ed25519", "e3b0c442-98fc-1c14-9afb-f4c8996fb924", "You are a helpful assistant. Keep answers short.",
		"${OPENAI_API_KEY}", "max_tokens=4096", "https://a.example/?page=1&key=a", "sha512-AAAA", "OPENAI_API_KEY",
	} {
		if looksSecret(text) {
			t.Errorf("%q looks like a secret", text)
		}
	}
}

func TestWebhooksWithTokens(t *testing.T) {
	for text, want := range map[string]bool{
		"https://chat.example/hooks/" + filler[:26]:             true,
		"https://chat.example/x?id=" + filler[:20]:              true,
		"https://chat.example/abcdefghijklmnopqrstuvwxyzabcdef": true,
		"https://chat.example/hooks/incoming":                   false,
		"https://a-very-long-host-name-0123456789.example/":     false,
		"https://a-very-long-host-name-0123456789.example":      false,
		"/hooks/" + filler: false, "": false,
	} {
		if got := carriesToken(text); got != want {
			t.Errorf("carriesToken(%q) = %v, want %v", text, got, want)
		}
	}
}
