package hooks

import (
	"sync"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// MaxLate is how many times in a row a handler may miss its time before it is
// cut off.
const MaxLate = 3

// breaker counts the handlers' missed times. The zero breaker is ready.
type breaker struct {
	mu   sync.Mutex
	late map[plugin.Key]map[int]int
}

// answered notes that the handler kept its time.
func (b *breaker) answered(key plugin.Key, index int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.late[key][index] < MaxLate { // a late call of one that is cut off changes nothing
		delete(b.late[key], index)
	}
}

// missed notes that the handler was late, and reports whether that cut it off.
func (b *breaker) missed(key plugin.Key, index int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.late == nil {
		b.late = map[plugin.Key]map[int]int{}
	}
	if b.late[key] == nil {
		b.late[key] = map[int]int{}
	}
	b.late[key][index]++
	return b.late[key][index] == MaxLate
}

func (b *breaker) open(key plugin.Key, index int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.late[key][index] >= MaxLate
}

func (b *breaker) reset(key plugin.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.late, key)
}
