package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// containerdNamespace is where ocmt keeps all that it makes in containerd.
const containerdNamespace = "ocmt"

// containerd is an [Engine] by the ctr command.
type containerd struct{ address string }

// Containerd is the engine at a socket's path; empty is $CONTAINERD_ADDRESS or
// the system's.
func Containerd(address string) Engine { return containerd{address} }

// executions number the programs that are run in containers.
var executions atomic.Int64

func (e containerd) run(ctx context.Context, args ...string) (string, error) {
	global := []string{"--namespace", containerdNamespace}
	if e.address != "" {
		global = append(global, "--address", e.address)
	}
	return command(ctx, "ctr", append(global, args...)...)
}

func (containerd) Name() string { return "containerd" }

func (e containerd) Answers(ctx context.Context) error {
	_, err := e.run(ctx, "version")
	return err
}

func (e containerd) Containers(ctx context.Context, labels map[string]string, running bool) ([]string, error) {
	var filters []string
	for key, value := range labels {
		filters = append(filters, fmt.Sprintf("labels.%q==%s", key, value))
	}
	out, err := e.run(ctx, "containers", "list", "--quiet", strings.Join(filters, ","))
	ids := strings.Fields(out)
	if err != nil || !running {
		return ids, err
	}
	tasks, err := e.tasks(ctx)
	return slices.DeleteFunc(ids, func(id string) bool { return tasks[id].status != "RUNNING" }), err
}

type task struct {
	pid    int
	status string
}

// tasks are containers' processes, by container.
func (e containerd) tasks(ctx context.Context) (map[string]task, error) {
	out, err := e.run(ctx, "tasks", "list")
	if err != nil {
		return nil, err
	}
	tasks := map[string]task{}
	for i, line := range strings.Split(out, "\n") {
		f := strings.Fields(line)
		if i == 0 || len(f) != 3 { // the head
			continue
		}
		pid, err := strconv.Atoi(f[1])
		if err != nil {
			return nil, fmt.Errorf("cannot read the list of tasks: %q", line)
		}
		tasks[f[0]] = task{pid, f[2]}
	}
	return tasks, nil
}

func (e containerd) PID(ctx context.Context, id string) (int, error) {
	tasks, err := e.tasks(ctx)
	if err != nil {
		return 0, err
	}
	if tasks[id].pid == 0 {
		return 0, fmt.Errorf("container %s has no task", id)
	}
	return tasks[id].pid, nil
}

func (e containerd) Kill(ctx context.Context, id string) error {
	_, err := e.run(ctx, "tasks", "kill", "--signal", "SIGKILL", id)
	return err
}

func (e containerd) Remove(ctx context.Context, id string) error {
	if _, err := e.run(ctx, "tasks", "delete", "--force", id); err != nil && !strings.Contains(err.Error(), "not found") {
		return err
	}
	_, err := e.run(ctx, "containers", "delete", id)
	return err
}

func (e containerd) Pause(ctx context.Context, id string) error {
	_, err := e.run(ctx, "tasks", "pause", id)
	return err
}

func (e containerd) Resume(ctx context.Context, id string) error {
	_, err := e.run(ctx, "tasks", "resume", id)
	return err
}

func (e containerd) Exec(ctx context.Context, id string, args ...string) (string, error) {
	exec := fmt.Sprintf("e2e-%d", executions.Add(1))
	return e.run(ctx, append([]string{"tasks", "exec", "--exec-id", exec, id}, args...)...)
}

func (e containerd) Inspect(ctx context.Context, id string) (string, error) {
	return e.run(ctx, "containers", "info", id)
}

func (e containerd) Limits(ctx context.Context, id string) (Limits, error) {
	out, err := e.run(ctx, "containers", "info", id)
	if err != nil {
		return Limits{}, err
	}
	var noted struct {
		Spec struct {
			Linux struct {
				Resources struct{ Memory, PIDs struct{ Limit int64 } }
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &noted); err != nil {
		return Limits{}, err
	}
	resources := noted.Spec.Linux.Resources
	return Limits{Memory: resources.Memory.Limit, PIDs: resources.PIDs.Limit}, nil
}

// Kept are containers, tasks, snapshots and leases.
func (e containerd) Kept(ctx context.Context, home string) ([]string, error) {
	containers, err := e.Containers(ctx, map[string]string{"ocmt.home": home}, false)
	if err != nil {
		return nil, err
	}
	tasks, err := e.tasks(ctx)
	if err != nil {
		return nil, err
	}
	var kept []string
	for _, id := range containers {
		kept = append(kept, "container "+id)
		if t, ok := tasks[id]; ok {
			kept = append(kept, fmt.Sprintf("task %s, %s", id, t.status))
		}
	}
	snapshots, err := e.snapshots(ctx, home)
	if err != nil {
		return nil, err
	}
	leases, err := e.run(ctx, "leases", "list")
	for line := range strings.Lines(leases) {
		if strings.Contains(line, home) {
			kept = append(kept, "lease "+strings.Fields(line)[0])
		}
	}
	return append(kept, snapshots...), err
}

// snapshots are the containers' own layers of a home.
func (e containerd) snapshots(ctx context.Context, home string) ([]string, error) {
	out, err := e.run(ctx, "snapshots", "list")
	if err != nil {
		return nil, err
	}
	var kept []string
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) == 0 || f[len(f)-1] != "Active" {
			continue
		}
		// One that is gone meanwhile is another test's.
		if info, err := e.run(ctx, "snapshots", "info", f[0]); err == nil && strings.Contains(info, home) {
			kept = append(kept, "snapshot "+f[0])
		}
	}
	return kept, nil
}
