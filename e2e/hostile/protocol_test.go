package hostile

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
)

// short is how long calls are given that are not answered.
const short = 1500 * time.Millisecond

// messagesGroup is what a plugin says in the runner's place.
func messagesGroup() group {
	return group{name: "messages", attacks: []attack{
		{
			name:  "bus-wrong-answer",
			aims:  "have the host take nonsense, another call's answer, or the host's own refusal for a result",
			layer: "wire: form, size, depth and id of an answer; errors are told as the plugin's word",
			want:  map[string]string{"listening": "true"},
			check: wrongAnswers,
		},
		{
			name:  "bus-late-answer",
			aims:  "answer calls that were given up, and calls to come",
			layer: "bus: an answer is taken for the call that waits for it, once",
			want:  map[string]string{"listening": "true"},
			check: func(t *testing.T, w *world) {
				for range 3 {
					w.fails(t, "slow", `{}`, "timeout", 300*time.Millisecond)
				}
				if got, err := w.invoke(t.Context(), w.id, "late", `{}`); err != nil || !strings.Contains(string(got), `"open":true`) {
					t.Errorf("late: %s, %v", got, err)
				}
				for _, params := range []string{`{"n":1}`, `{"n":2}`, `{"n":3}`} {
					w.expect(t, "echo", params, params)
				}
			},
		},
		{
			name:  "bus-no-responders",
			aims:  "have the host send a call for ever, by saying that nobody took it",
			layer: "a call's deadline; a pause that grows between two attempts",
			want:  map[string]string{"lying": "true"},
			check: func(t *testing.T, w *world) {
				w.fails(t, "never", `{}`, "timeout", 3*time.Second)
				time.Sleep(1200 * time.Millisecond) // until it has stopped to lie
				var got struct{ Seen int }
				result, err := w.invoke(t.Context(), w.id, "seen", `{}`)
				if err != nil || json.Unmarshal(result, &got) != nil || got.Seen == 0 || got.Seen > 20 {
					t.Errorf("the call was sent %d times, want a few: %s, %v", got.Seen, result, err)
				}
			},
		},
		{
			name:  "bus-progress",
			aims:  "put interim results into other plugins' calls",
			layer: "bus: progress is its own instance's, and of a call that runs",
			want:  map[string]string{"sent": `\d+`},
			check: foreignProgress,
		},
	}}
}

// wrongAnswers has a second connection of the attacker answer in every wrong
// way, and looks at what the caller gets.
func wrongAnswers(t *testing.T, w *world) {
	for how, code := range map[string]string{
		"other": "bad_result", "type": "bad_result", "empty": "bad_result", "noJSON": "bad_result", "both": "bad_result", "neither": "bad_result",
		"deep": "bad_result", "duplicate": "bad_result", "utf8": "bad_result", "trailing": "bad_result", "oversized": "bad_result",
		// Whatever it calls its error, it is one that the plugin threw.
		"code": "plugin_threw",
	} {
		w.fails(t, "victim", `{"how":"`+how+`"}`, code, short)
	}
	for _, text := range []string{
		`{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}`, `{"a":1,"a":2}`, `1e400`, `-0`, `""`,
		`"` + strings.Repeat(`\u0000`, 100) + `"`, strings.Repeat("[", 500) + strings.Repeat("]", 500),
	} {
		params, err := json.Marshal(map[string]string{"how": "raw", "text": text})
		if err != nil {
			t.Fatal(err)
		}
		result, err := w.client.Call(t.Context(), tenant, w.id, "victim", v1.CallRequest{Params: params, TimeoutMillis: short.Milliseconds()})
		if err != nil || string(result.Result) != text {
			t.Errorf("%.80s became %.80s, %v", text, result.Result, err)
		}
	}
	w.expect(t, "echo", `{"still":"there"}`, `{"still":"there"}`)
}

// foreignProgress watches the neighbour's calls while the attacker tells of
// interim results.
func foreignProgress(t *testing.T, w *world) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var updates atomic.Int32
	watch := client.Watch{Update: func(json.RawMessage) { updates.Add(1) }}
	ended := make(chan error, 1)
	go func() {
		_, err := w.invoke(ctx, w.id, "attack", `{"ids":["x"]}`)
		ended <- err
	}()
	for range 20 {
		if _, err := w.client.Stream(ctx, tenant, victimID, "look", v1.CallRequest{}, watch); err != nil {
			t.Error(err)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := updates.Load(); n > 0 {
		t.Errorf("the neighbour's callers got %d interim results", n)
	}
}
