package hostile

import (
	"strings"
	"testing"
	"time"
)

// back waits until the attacker serves again, as another generation.
func (w *world) back(t *testing.T, after uint64) {
	t.Helper()
	if !within(time.Minute, func() bool { d := w.plugin(t); return d.State == "running" && d.Generation > after }) {
		t.Fatalf("it does not run again: %+v", w.plugin(t).Plugin)
	}
}

// ended fails the test unless the attacker's first generation ended as said.
func (w *world) ended(t *testing.T, class string) {
	t.Helper()
	w.back(t, 1)
	if exit := w.plugin(t).LastExit; exit == nil || exit.Class != class {
		t.Errorf("it ended as %+v, want %s", exit, class)
	}
}

// runnerGroup is what a plugin does to the process that it shares.
func runnerGroup() group {
	return group{name: "runner", attacks: []attack{
		{
			name:  "runner-prototype",
			aims:  "have the runner say what it would not, by altering what all code shares",
			layer: "nothing that the runner says is authority; the runner takes what it needs before the plugin runs",
			want:  map[string]string{"": `all|forged|tool\.result|(?:bad_result|plugin_threw|timeout|plugin_crashed): .*`}, // its own result, whatever it makes of that
			check: func(t *testing.T, w *world) {
				if result, err := w.invoke(t.Context(), w.id, "steal", `{}`); err == nil && strings.Contains(string(result), "permission") {
					t.Errorf("it got %s", result)
				}
			},
		},
		{
			name:   "runner-impostor",
			aims:   "leave a process behind that answers in the runner's place when that is gone",
			layer:  "init ends the container with the runner; the next generation has another socket",
			varies: true,
			want:   map[string]string{"call": "plugin_crashed: .*"},
			check: func(t *testing.T, w *world) {
				w.back(t, 1)
				for range 10 {
					w.expect(t, "who", `{}`, `{"who":"the runner"}`)
				}
			},
		},
		{
			name:   "runner-kill-init",
			aims:   "end or stop the first process of the container, and go on without it",
			layer:  "PID namespace: PID 1 takes the signals that it asked for; own namespace, so there is nobody else",
			varies: true,
			want:   map[string]string{"runc/others": "0", "runsc/call": "plugin_crashed: .*"}, // gVisor lets it end its own container
			check: func(t *testing.T, w *world) {
				if !within(time.Minute, func() bool { return w.plugin(t).State == "running" }) {
					t.Errorf("it does not run: %+v", w.plugin(t).Plugin)
				}
			},
		},
		{
			name:  "runner-stdout",
			aims:  "break the runner's output, and have it take that for an error of the host",
			layer: "the host reads lines from the engine and believes none; the bus does not need them",
			want:  map[string]string{"replaced": "all"},
			check: func(t *testing.T, w *world) { w.expect(t, "echo", `{"a":1}`, `{"a":1}`) },
		},
		{
			name:  "runner-block",
			aims:  "serve nobody and look alive",
			layer: "supervision: pings that are not answered end the container",
			want:  map[string]string{"call": "(?:timeout|plugin_crashed): .*"},
			check: func(t *testing.T, w *world) { w.ended(t, "probe_failure") },
		},
		{
			name:  "runner-survive",
			aims:  "go on after it was told to end",
			layer: "supervision: a grace, then the container is killed with all in it",
			want:  map[string]string{"clinging": "to life"},
			check: func(t *testing.T, w *world) {
				container, err := w.daemon.Container(t.Context(), tenant, w.id)
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				w.run(t, "plugins", "disable", w.id)
				if !within(25*time.Second-time.Since(start), func() bool { _, err := w.daemon.Engine().PID(t.Context(), container); return err != nil }) {
					t.Error("it runs 25 s after it was told to end")
				}
			},
		},
		{
			name:  "runner-rejections",
			aims:  "end without an end: rejections and exceptions that nobody handles",
			layer: "supervision: the exit is classified, the call fails at once, the plugin is started again",
			want:  map[string]string{"call": "plugin_crashed: .*"},
			check: func(t *testing.T, w *world) { w.ended(t, "error") },
		},
		{
			name:  "runner-exit",
			aims:  "keep callers waiting by ending in the middle of their calls",
			layer: "bus: the end of the connection ends the calls that went over it",
			want:  map[string]string{"call": "plugin_crashed: .*"},
			check: func(t *testing.T, w *world) {
				w.ended(t, "clean")
				w.fails(t, "attack", `{}`, "plugin_crashed", 10*time.Second)
				if !within(20*time.Second, func() bool { return w.plugin(t).State == "running" }) {
					t.Error("it does not run again")
				}
				w.expect(t, "echo", `{"a":1}`, `{"a":1}`)
			},
		},
		{
			name:  "runner-crash-loop",
			aims:  "keep the host busy with starting it",
			layer: "supervision: a delay that doubles, and a breaker",
			want:  map[string]string{"crashing": "from now on"},
			check: func(t *testing.T, w *world) {
				var states []string
				if !within(3*time.Minute, func() bool {
					s := w.plugin(t).State
					if len(states) == 0 || states[len(states)-1] != s {
						states = append(states, s)
					}
					return s == "crashlooped"
				}) {
					t.Fatalf("it is %+v, was %v", w.plugin(t).Plugin, states)
				}
				if d := w.plugin(t); d.Generation > 9 || d.NextAttempt == nil || time.Until(*d.NextAttempt) < 5*time.Minute {
					t.Errorf("it was started %d times, and is next at %v", d.Generation, d.NextAttempt)
				}
			},
		},
		{
			name:   "runner-leftovers",
			aims:   "leave threads, timers, sockets and children behind",
			layer:  "init signals all of them; the container ends with all in it",
			varies: true,
			want:   map[string]string{"left": "everything"},
			check: func(t *testing.T, w *world) {
				start := time.Now()
				w.run(t, "plugins", "disable", w.id)
				if !within(25*time.Second-time.Since(start), func() bool {
					_, err := w.daemon.Container(t.Context(), tenant, w.id)
					return err != nil
				}) {
					t.Error("it runs 25 s after it was told to end")
				}
			},
		},
	}}
}
