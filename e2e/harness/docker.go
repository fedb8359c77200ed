package harness

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
)

// docker is an [Engine] by the docker command.
type docker struct{ host string }

// Docker is the engine at a host, as unix:///run/docker.sock; empty is the
// docker command's own default.
func Docker(host string) Engine { return docker{host} }

func (e docker) run(ctx context.Context, args ...string) (string, error) {
	if e.host != "" {
		args = append([]string{"--host", e.host}, args...)
	}
	return command(ctx, "docker", args...)
}

func (docker) Name() string { return "docker" }

func (e docker) Answers(ctx context.Context) error {
	_, err := e.run(ctx, "version", "--format", "{{.Server.Version}}")
	return err
}

func (e docker) Containers(ctx context.Context, labels map[string]string, running bool) ([]string, error) {
	args := []string{"ps", "--quiet", "--no-trunc"}
	if !running {
		args = append(args, "--all")
	}
	for key, value := range labels {
		args = append(args, "--filter", "label="+key+"="+value)
	}
	out, err := e.run(ctx, args...)
	return strings.Fields(out), err
}

func (e docker) PID(ctx context.Context, id string) (int, error) {
	out, err := e.run(ctx, "inspect", "--format", "{{.State.Pid}}", id)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(out)
}

func (e docker) Kill(ctx context.Context, id string) error {
	_, err := e.run(ctx, "kill", id)
	return err
}

func (e docker) Remove(ctx context.Context, id string) error {
	_, err := e.run(ctx, "rm", "--force", "--volumes", id)
	return err
}

func (e docker) Pause(ctx context.Context, id string) error {
	_, err := e.run(ctx, "pause", id)
	return err
}

func (e docker) Resume(ctx context.Context, id string) error {
	_, err := e.run(ctx, "unpause", id)
	return err
}

func (e docker) Exec(ctx context.Context, id string, args ...string) (string, error) {
	return e.run(ctx, append([]string{"exec", id}, args...)...)
}

func (e docker) Inspect(ctx context.Context, id string) (string, error) {
	return e.run(ctx, "inspect", "--format", "{{json .}}", id)
}

func (e docker) Limits(ctx context.Context, id string) (Limits, error) {
	out, err := e.run(ctx, "inspect", "--format", `{"Memory":{{.HostConfig.Memory}},"PIDs":{{.HostConfig.PidsLimit}}}`, id)
	if err != nil {
		return Limits{}, err
	}
	var l Limits
	return l, json.Unmarshal([]byte(out), &l)
}

// Kept are containers and volumes.
func (e docker) Kept(ctx context.Context, home string) ([]string, error) {
	var kept []string
	for what, args := range map[string][]string{"container": {"ps", "--all"}, "volume": {"volume", "ls"}} {
		out, err := e.run(ctx, append(args, "--quiet", "--filter", "label=ocmt.home="+home)...)
		if err != nil {
			return nil, err
		}
		for _, id := range strings.Fields(out) {
			kept = append(kept, what+" "+id)
		}
	}
	return kept, nil
}
