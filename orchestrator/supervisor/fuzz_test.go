package supervisor

import "testing"

// FuzzStep plays any sequence of events against a model of the world, in
// which actions have results sooner or later, in either way.
func FuzzStep(f *testing.F) {
	f.Add([]byte{0, 20, 20, 20, 24, 20, 7, 7, 20, 20})
	f.Add([]byte{0, 20, 1, 21, 2, 20, 3, 4, 5, 20})
	f.Add([]byte{0, 22, 3, 0, 7, 20, 20, 6})
	f.Add([]byte{8, 16, 176, 28, 16, 16, 9})
	f.Fuzz(func(t *testing.T, data []byte) {
		w := newWorld(t)
		for _, b := range data {
			w.play(b)
		}
		w.settle()
	})
}
