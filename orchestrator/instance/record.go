package instance

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/sandbox"
)

const (
	recordName    = "instance.json"
	specName      = "spec.json"
	recordVersion = 2
	maxRecord     = 64 << 10 // bytes; ours has less than one KiB
	maxOwn        = 4 << 20  // bytes, of any file
)

// Record is what a Factory keeps on the disk of an instance that it prepared,
// so that a later process can adopt it. It holds nothing of what the plugin is
// configured with or was granted.
type Record struct {
	Version    int        `json:"version"`
	Key        plugin.Key `json:"key"`
	Generation uint64     `json:"generation"`
	Instance   string     `json:"instance"` // and the container's id
	Discovery  bool       `json:"discovery"`
	Image      string     `json:"image"`   // configuration digest
	Runtime    string     `json:"runtime"` // as in Plan.Runtime, or Config.Runtime
	Payload    string     `json:"payload"` // digest
	Recipe     string     `json:"recipe"`  // see Plan.Recipe
	UID        uint32     `json:"uid"`     // that the container runs as
	State      string     `json:"state"`   // what /state is, see StateQuota
}

// recordOf is what an instance of ours by the plan has on record.
func (f *Factory) recordOf(in *Instance, uid uint32) Record {
	return Record{
		Version: recordVersion, Key: in.plan.Key, Generation: in.plan.Generation, Instance: in.id,
		Discovery: in.plan.Discovery, Image: f.Image, Runtime: f.runtimeOf(&in.plan),
		Payload: in.plan.Payload.Digest, Recipe: in.plan.Recipe, UID: uid,
		State: f.stateKind(),
	}
}

// writeRecord puts the record into the instance's directory.
func (f *Factory) writeRecord(rec Record) error {
	data, err := json.Marshal(rec)
	if err == nil {
		err = replaceFile(filepath.Join(f.Home.Instance(rec.Instance), recordName), data)
	}
	if err != nil {
		return fmt.Errorf("cannot write the record of instance %s: %w", rec.Instance, err)
	}
	return nil
}

// Records returns what is on record of instances, by their ids, whether they
// run or not. One that cannot be read is logged and left out, and so are those
// of another version of this program that kept other things.
func (f *Factory) Records() (map[string]Record, error) {
	entries, err := os.ReadDir(f.Home.Instances())
	if err != nil {
		return nil, fmt.Errorf("cannot look for instances: %w", err)
	}
	records := map[string]Record{}
	for _, entry := range entries {
		rec, err := f.readRecord(entry.Name())
		switch {
		case err == nil:
			records[rec.Instance] = rec
		case !errors.Is(err, fs.ErrNotExist): // which a throw-away container has none of
			f.Logger.Warn("cannot use the record of an instance", "instance", entry.Name(), "error", err)
		}
	}
	return records, nil
}

// writeSpec keeps what the container is made of in the instance's directory.
func (f *Factory) writeSpec(spec sandbox.Spec) error {
	data, err := json.Marshal(spec)
	if err == nil {
		err = replaceFile(filepath.Join(f.Home.Instance(spec.ID), specName), data)
	}
	if err != nil {
		return fmt.Errorf("cannot write what instance %s is made of: %w", spec.ID, err)
	}
	return nil
}

// readSpec reads what writeSpec wrote.
func (f *Factory) readSpec(id string) (sandbox.Spec, error) {
	var spec sandbox.Spec
	data, err := readOwn(filepath.Join(f.Home.Instance(id), specName))
	if err == nil {
		err = json.Unmarshal(data, &spec)
	}
	if err == nil && spec.ID != id {
		err = fmt.Errorf("it is another instance's: %w", errdefs.ErrDataLoss)
	}
	if err != nil {
		return spec, fmt.Errorf("cannot read what it was made of: %w: %w", err, errdefs.ErrFailedPrecondition)
	}
	return spec, nil
}

// readRecord reads the record of an instance.
func (f *Factory) readRecord(id string) (Record, error) {
	data, err := readOwn(filepath.Join(f.Home.Instance(id), recordName))
	if err != nil {
		return Record{}, err
	}
	rec, err := parseRecord(data)
	if err == nil && (rec.Instance != id || id != instanceID(f.HomeID, Plan{Key: rec.Key, Generation: rec.Generation, Discovery: rec.Discovery})) {
		err = fmt.Errorf("it is another instance's: %w", errdefs.ErrDataLoss)
	}
	return rec, err
}

// readOwn reads a file that may be anything, if it is one that only this user
// can have written.
func readOwn(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := checkOwn(file); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(file, maxOwn+1))
	if err == nil && len(data) > maxOwn {
		err = fmt.Errorf("it has more than %d bytes: %w", maxOwn, errdefs.ErrDataLoss)
	}
	return data, err
}

// checkOwn refuses what is no file that this user alone may write.
func checkOwn(file *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return fmt.Errorf("cannot look at it: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return fmt.Errorf("it is no file of ours: %w", errdefs.ErrPermissionDenied)
	}
	return nil
}

// parseRecord reads a record strictly: what this program did not write, it does
// not adopt by.
func parseRecord(data []byte) (Record, error) {
	if len(data) > maxRecord {
		return Record{}, fmt.Errorf("it has more than %d bytes: %w", maxRecord, errdefs.ErrDataLoss)
	}
	decoder := json.NewDecoder(strings.NewReader(string(data)))
	decoder.DisallowUnknownFields()
	var rec Record
	if err := decoder.Decode(&rec); err != nil {
		return Record{}, fmt.Errorf("%w: %w", err, errdefs.ErrDataLoss)
	}
	_, err := decoder.Token()
	switch {
	case !errors.Is(err, io.EOF):
		return Record{}, fmt.Errorf("something follows it: %w", errdefs.ErrDataLoss)
	case rec.Version != recordVersion:
		return Record{}, fmt.Errorf("its version is %d, not %d: %w", rec.Version, recordVersion, errdefs.ErrFailedPrecondition)
	case rec.Key.Tenant == "" || rec.Key.ID == "" || rec.Instance == "":
		return Record{}, fmt.Errorf("it names no instance: %w", errdefs.ErrDataLoss)
	}
	return rec, nil
}

// fits says why a container is not the one on record, in which nothing else
// than what the record names may run.
func (r Record) fits(homeID string, c sandbox.Container) error {
	for label, want := range map[string]string{
		sandbox.LabelHome: homeID, sandbox.LabelTenant: r.Key.Tenant, sandbox.LabelPlugin: r.Key.ID,
		sandbox.LabelInstance: r.Instance, sandbox.LabelGeneration: fmt.Sprint(r.Generation), sandbox.LabelRole: sandbox.RolePlugin,
	} {
		if got := c.Labels[label]; got != want {
			return fmt.Errorf("its label %s is %q, not %q: %w", label, got, want, errdefs.ErrFailedPrecondition)
		}
	}
	if c.ID != r.Instance {
		return fmt.Errorf("its id is not %s: %w", r.Instance, errdefs.ErrFailedPrecondition)
	}
	return nil
}
