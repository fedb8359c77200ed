package supervisor

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// memory is a Store, and a Launcher whose instances are in memory. Hooks
// change what it does; nil ones do the ordinary thing.
type memory struct {
	t *testing.T

	mu         sync.Mutex
	generation map[plugin.Key]uint64
	docs       map[plugin.Key]json.RawMessage
	instances  map[plugin.Key][]*instance
	preparing  int
	maxPrepare int

	prepare  func(ctx context.Context) error
	saveErr  error
	newHooks hooks // of instances to come
}

// hooks are what an instance does.
type hooks struct {
	start, ping, close func(ctx context.Context) error
	stop               func(ctx context.Context, grace time.Duration) error
}

func newMemory(t *testing.T) *memory {
	return &memory{t: t, generation: map[plugin.Key]uint64{}, docs: map[plugin.Key]json.RawMessage{},
		instances: map[plugin.Key][]*instance{}}
}

func (m *memory) NextGeneration(_ context.Context, key plugin.Key) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.generation[key]++
	return m.generation[key], nil
}

func (m *memory) SaveUnit(_ context.Context, key plugin.Key, doc json.RawMessage) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.saveErr == nil {
		m.docs[key] = doc
	}
	return m.saveErr
}

func (m *memory) LoadUnit(_ context.Context, key plugin.Key) (json.RawMessage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.docs[key], nil
}

func (m *memory) DeleteUnit(_ context.Context, key plugin.Key) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.docs, key)
	return nil
}

func (m *memory) Prepare(ctx context.Context, key plugin.Key, generation uint64) (Instance, error) {
	m.mu.Lock()
	m.preparing++
	m.maxPrepare = max(m.maxPrepare, m.preparing)
	hook, h := m.prepare, m.newHooks
	m.mu.Unlock()
	var err error
	if hook != nil {
		err = hook(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.preparing--
	if err != nil {
		return nil, err
	}
	for _, other := range m.instances[key] {
		if !other.closed && !hasEnded(other) {
			m.t.Errorf("a second instance of %s is made while %s may run", key, other.id)
		}
	}
	inst := &instance{m: m, hooks: h, id: fmt.Sprintf("%s-%d", key.ID, generation), done: make(chan struct{})}
	m.instances[key] = append(m.instances[key], inst)
	return inst, nil
}

func (m *memory) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

func (m *memory) count(key plugin.Key) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.instances[key])
}

// open returns the instances that were not closed.
func (m *memory) open() (left []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, list := range m.instances {
		for _, i := range list {
			if !i.closed {
				left = append(left, i.id)
			}
		}
	}
	return left
}

type instance struct {
	m     *memory
	hooks hooks // guarded by m.mu
	id    string
	done  chan struct{}

	once   sync.Once
	exit   Exit
	closed bool            // guarded by m.mu
	graces []time.Duration // guarded by m.mu
}

func (i *instance) ID() string            { return i.id }
func (i *instance) Done() <-chan struct{} { return i.done }
func (i *instance) Exit() Exit            { return i.exit }

// end ends the container.
func (i *instance) end(code int, oom bool) {
	i.once.Do(func() {
		i.exit = Exit{Code: code, OOM: oom, At: time.Now()}
		close(i.done)
	})
}

// does returns what it does now.
func (i *instance) does() hooks {
	i.m.mu.Lock()
	defer i.m.mu.Unlock()
	return i.hooks
}

func (i *instance) Start(ctx context.Context) error {
	if start := i.does().start; start != nil {
		return start(ctx)
	}
	return nil
}

func (i *instance) Ping(ctx context.Context) error {
	if ping := i.does().ping; ping != nil {
		return ping(ctx)
	}
	return nil
}

func (i *instance) Stop(ctx context.Context, grace time.Duration) error {
	i.m.set(func() { i.graces = append(i.graces, grace) })
	if stop := i.does().stop; stop != nil {
		if err := stop(ctx, grace); err != nil {
			return err
		}
	}
	i.end(143, false)
	return nil
}

func (i *instance) Close(ctx context.Context) error {
	if closes := i.does().close; closes != nil {
		if err := closes(ctx); err != nil {
			return err
		}
	}
	i.end(137, false)
	i.m.set(func() { i.closed = true })
	return nil
}

// hang blocks until ctx ends.
func hang(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// bench is a supervisor of one memory, in a bubble of synthetic time.
type bench struct {
	*Supervisor
	m        *memory
	abandons bool // the test is about instances that cannot be ended
}

var echo = plugin.Key{Tenant: "default", ID: "echo"}

// bubble runs f in a bubble. The bubble itself fails the test if a goroutine
// is left when f has returned.
func bubble(t *testing.T, f func(t *testing.T, b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		b := &bench{m: m, Supervisor: New(Config{Launcher: m, Store: m, Logger: newLogger()})}
		defer func() { // also when f gave up
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := b.Shutdown(ctx); err != nil {
				t.Errorf("Shutdown = %v", err)
			}
			if left := m.open(); len(left) > 0 && !b.abandons {
				t.Errorf("left over after Shutdown: %v", left)
			}
		}()
		f(t, b)
	})
}

func (b *bench) add(key plugin.Key) {
	b.m.t.Helper()
	if err := b.Add(b.m.t.Context(), key, true); err != nil {
		b.m.t.Fatal(err)
	}
}

func (b *bench) ready(key plugin.Key) *instance {
	b.m.t.Helper()
	ctx, cancel := context.WithTimeout(b.m.t.Context(), time.Minute)
	defer cancel()
	inst, err := b.Ready(ctx, key)
	if err != nil {
		b.m.t.Fatal(err)
	}
	return inst.(*instance)
}

func (b *bench) status(key plugin.Key) Status {
	b.m.t.Helper()
	st, err := b.Status(key)
	if err != nil {
		b.m.t.Fatal(err)
	}
	return st
}

// wait lets d pass, and all that can happen by then happen.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func newLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }
