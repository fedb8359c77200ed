package daemon

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/store"
)

const (
	tokenPrefix = "ocmt_" // so that a token which got somewhere is recognised
	tokenBytes  = 32      // of randomness
	tokenIDLen  = 12      // characters of base32

	maxTokenName = 100 // characters, the API's own

	// tokenUseEvery is how often at most the use of a token is written down.
	tokenUseEvery = time.Minute
)

// tokens are the tokens of callers over TLS: those of the store, by their
// hash. It implements httpapi.Tokens.
type tokens struct {
	store *store.Store
	log   *slog.Logger

	mu     sync.Mutex
	byHash map[[sha256.Size]byte]*heldToken
}

type heldToken struct {
	store.Token
	ended chan struct{} // closed when the token is revoked or expires
	end   func()        // closes it, once
}

func loadTokens(ctx context.Context, s *store.Store, log *slog.Logger) (*tokens, error) {
	list, err := s.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	k := &tokens{store: s, log: log, byHash: make(map[[sha256.Size]byte]*heldToken)}
	for _, t := range list {
		k.hold(t)
	}
	return k, nil
}

// hold needs the lock.
func (k *tokens) hold(t store.Token) {
	held := &heldToken{Token: t, ended: make(chan struct{})}
	held.end = sync.OnceFunc(func() { close(held.ended) })
	if !t.ExpiresAt.IsZero() {
		time.AfterFunc(time.Until(t.ExpiresAt), held.end)
	}
	k.byHash[t.Hash] = held
}

// Lookup returns whose token it is.
func (k *tokens) Lookup(ctx context.Context, token string) (httpapi.Caller, error) {
	held, used := k.use(sha256.Sum256([]byte(token)), time.Now())
	if held == nil {
		return httpapi.Caller{}, fault.New(errdefs.ErrNotFound, "token_not_found", "there is no such token")
	}
	if !used.IsZero() {
		if err := k.store.UseToken(context.WithoutCancel(ctx), held.ID, used); err != nil {
			k.log.Warn("cannot note that a token was used", "token", held.ID, "error", err)
		}
	}
	return httpapi.Caller{
		Actor: "token:" + held.ID, Access: httpapi.Access(held.Access), Tenant: held.Tenant, Ended: held.ended,
	}, nil
}

// use returns the token, nil if there is none that is in force, and the time to
// write down if that is due.
func (k *tokens) use(hash [sha256.Size]byte, now time.Time) (held *heldToken, used time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	held = k.byHash[hash]
	if held == nil || held.over(now) {
		return nil, time.Time{}
	}
	if now.Sub(held.UsedAt) >= tokenUseEvery {
		held.UsedAt = now.UTC()
		return held, held.UsedAt
	}
	return held, time.Time{}
}

// over says whether the token was revoked, or has expired by the clock, which
// may have been set since.
func (h *heldToken) over(now time.Time) bool {
	select {
	case <-h.ended:
		return true
	default:
		return !h.ExpiresAt.IsZero() && !now.Before(h.ExpiresAt)
	}
}

// add puts a new token into force.
func (k *tokens) add(ctx context.Context, t store.Token) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.store.PutToken(ctx, t); err != nil {
		return err
	}
	k.hold(t)
	return nil
}

// list returns the tokens that reach tenant, all for "", the oldest first.
func (k *tokens) list(tenant string) []store.Token {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []store.Token
	for held := range maps.Values(k.byHash) {
		if tenant == "" || held.Access == store.TokenAdmin || held.Tenant == tenant {
			list = append(list, held.Token)
		}
	}
	slices.SortFunc(list, func(a, b store.Token) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	return list
}

func (k *tokens) get(id string) (store.Token, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	held, err := k.find(id)
	if err != nil {
		return store.Token{}, err
	}
	return held.Token, nil
}

// find needs the lock.
func (k *tokens) find(id string) (*heldToken, error) {
	for _, held := range k.byHash {
		if held.ID == id {
			return held, nil
		}
	}
	return nil, fault.New(errdefs.ErrNotFound, "token_not_found", "there is no token with the id %q", plugin.Printable(id, 64)).
		WithHint("the ids are in the first column of: ocmt tokens list -A")
}

// revoke ends a token. It is refused from then on also if it cannot be
// forgotten, and can be revoked again.
func (k *tokens) revoke(ctx context.Context, id string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	held, err := k.find(id)
	if err != nil {
		return err
	}
	held.end()
	if _, err := k.store.DeleteToken(ctx, id); err != nil {
		return err
	}
	delete(k.byHash, held.Hash)
	return nil
}

// tokenAPI implements httpapi.TokenAdmin.
type tokenAPI struct{ d *Daemon }

func (b tokenAPI) Tokens(_ context.Context, tenant string) ([]v1.Token, error) {
	var list []v1.Token
	for _, t := range b.d.tokens.list(tenant) {
		list = append(list, tokenOf(t))
	}
	return list, nil
}

func (b tokenAPI) CreateToken(ctx context.Context, req v1.CreateTokenRequest) (v1.CreatedToken, error) {
	secret := newSecret()
	t := store.Token{
		ID: strings.ToLower(rand.Text()[:tokenIDLen]), Hash: sha256.Sum256([]byte(secret)), Name: plugin.Printable(req.Name, maxTokenName),
		Access: req.Access, Tenant: req.Tenant, CreatedBy: actorOf(ctx), CreatedAt: time.Now().UTC().Round(0),
	}
	if req.ForSeconds > 0 {
		t.ExpiresAt = t.CreatedAt.Add(time.Duration(req.ForSeconds) * time.Second)
	}
	err := b.d.audited(ctx, plugin.Key{Tenant: t.Tenant}, "token.create", describeToken(t), func() error {
		return b.d.tokens.add(context.WithoutCancel(ctx), t)
	})
	if err != nil {
		return v1.CreatedToken{}, err
	}
	return v1.CreatedToken{Token: tokenOf(t), Secret: secret}, nil
}

func (b tokenAPI) RevokeToken(ctx context.Context, id string) (v1.Token, error) {
	t, err := b.d.tokens.get(id)
	if err != nil {
		return v1.Token{}, err
	}
	err = b.d.audited(ctx, plugin.Key{Tenant: t.Tenant}, "token.revoke", describeToken(t), func() error {
		return b.d.tokens.revoke(context.WithoutCancel(ctx), id) // whose own token it may be
	})
	return tokenOf(t), err
}

func newSecret() string {
	random := make([]byte, tokenBytes)
	_, _ = rand.Read(random) // never fails
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(random)
}

func tokenOf(t store.Token) v1.Token {
	out := v1.Token{ID: t.ID, Name: t.Name, Access: t.Access, Tenant: t.Tenant, CreatedBy: t.CreatedBy, CreatedAt: t.CreatedAt}
	if !t.ExpiresAt.IsZero() {
		out.ExpiresAt = &t.ExpiresAt
	}
	if !t.UsedAt.IsZero() {
		out.LastUsedAt = &t.UsedAt
	}
	return out
}

// describeToken names a token in the audit log.
func describeToken(t store.Token) string {
	text := t.ID + " " + t.Access
	if !t.ExpiresAt.IsZero() {
		text += " until " + t.ExpiresAt.Format(time.RFC3339)
	}
	if t.Name != "" {
		text += " (" + t.Name + ")"
	}
	return text
}

// openTokens reads the tokens, and listens with TLS if that is asked for:
// before any plugin starts, so that a certificate of no use costs nothing.
func (d *Daemon) openTokens(ctx context.Context) (err error) {
	if d.tokens, err = loadTokens(ctx, d.store, d.logger); err != nil || d.opts.Listen == "" {
		return err
	}
	if d.remote, err = httpapi.ListenTLS(ctx, d.opts.Listen, d.opts.TLSCert, d.opts.TLSKey, d.logger); err != nil {
		return err
	}
	d.onClose(func() error {
		if err := d.remote.Close(); !errors.Is(err, net.ErrClosed) { // as it is after it was served
			return err
		}
		return nil
	})
	return nil
}

// serveRemote serves callers over TLS until ctx ends. Without them everything
// else goes on.
func (d *Daemon) serveRemote(ctx context.Context, handler http.Handler) {
	if d.remote == nil {
		return
	}
	addr := d.remote.Addr()
	if everyNetwork(addr) {
		d.logger.Warn("the API is offered on every network of this host", "address", addr.String())
	}
	d.logger.Info("serving with TLS", "address", addr.String(), "tokens", len(d.tokens.list("")))
	if err := httpapi.Serve(ctx, d.remote, handler, httpapi.Caller{}, d.logger); err != nil {
		d.logger.Error("callers over TLS are not served", "address", addr.String(), "error", err)
	}
}

// everyNetwork says whether addr is that of all networks of the host.
func everyNetwork(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && (len(tcp.IP) == 0 || tcp.IP.IsUnspecified())
}
