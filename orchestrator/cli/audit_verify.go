package cli

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	"github.com/ocmt/ocmt/orchestrator/audit"
)

// auditVerifyFlags say what is held against what.
type auditVerifyFlags struct {
	dir, key    string
	checkpoints []string
}

func (a *app) auditVerifyCommand() *cobra.Command {
	var r reads
	var f auditVerifyFlags
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check that nobody changed the audit log",
		Long: `Read the whole audit log and check that nobody changed it: the numbers and hashes
of the records, and the signature of every checkpoint. It may run while the daemon
writes. The exit code is 1 if the log was changed, and the message names the file
and the line.

A checkpoint that was kept elsewhere proves that the log still holds all that it
signed, also against one who has the home's keys. Records after the last
checkpoint are not signed yet; they are counted.`,
		Example: `  ocmt audit verify
  ocmt audit verify --checkpoint /mnt/elsewhere/ocmt.checkpoint
  ocmt audit verify --dir ./copy-of-audit --key ./audit.pub --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, opts, err := a.auditVerifyOptions(f)
			if err != nil {
				return err
			}
			report, err := audit.Verify(cmd.Context(), dir, opts)
			if err != nil && !errdefs.IsDataLoss(err) {
				return err
			}
			if r.json {
				return errors.Join(a.printJSON(report), err)
			}
			printVerified(cmd, report)
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.dir, "dir", "", "`DIR` of the log (default ocmt/audit in the home)")
	flags.StringVar(&f.key, "key", "", "`FILE` with the public key (default ocmt/keys/audit.pub in the home)")
	flags.StringArrayVar(&f.checkpoints, "checkpoint", nil, "`FILE` with a checkpoint that was kept elsewhere; may be given again")
	r.addJSON(cmd)
	return cmd
}

// auditVerifyOptions reads what the log is held against. The home's own log is
// also held against the checkpoint that lies beside its keys; a copy may be
// older than that.
func (a *app) auditVerifyOptions(f auditVerifyFlags) (dir string, opts audit.VerifyOptions, err error) {
	if opts.PublicKey, err = a.publicKey(f.key); err != nil {
		return "", opts, err
	}
	for _, file := range f.checkpoints {
		signed, err := readBounded(file)
		if err != nil {
			return "", opts, err
		}
		opts.Checkpoints = append(opts.Checkpoints, signed)
	}
	if f.dir != "" {
		return f.dir, opts, nil
	}
	home, err := a.homeDir()
	if err != nil {
		return "", opts, err
	}
	if f.key == "" {
		head, err := readBounded(filepath.Join(keyDir(home), audit.HeadFile))
		if err != nil && !errdefs.IsNotFound(err) {
			return "", opts, err
		}
		if len(bytes.Trim(head, "\x00")) > 0 {
			opts.Checkpoints = append(opts.Checkpoints, head)
		}
	}
	return auditDir(home), opts, nil
}

func printVerified(cmd *cobra.Command, r audit.Report) {
	out := cmd.OutOrStdout()
	if len(r.Problems) == 0 {
		fmt.Fprintf(out, "The audit log is intact: %s in %s, signed by %s.\n",
			count(int(r.Records), "record"), count(r.Segments, "segment"), count(int(r.Checkpoints), "checkpoint"))
		if r.Records > 0 {
			fmt.Fprintf(out, "From %s to %s.\n", instant(r.First), instant(r.Last))
		}
	}
	if r.Unsigned > 0 {
		fmt.Fprintf(out, "Not signed yet, so not proven: %s.\n", count(int(r.Unsigned), "record"))
	}
	if r.TornBytes > 0 {
		fmt.Fprintf(out, "An unfinished last line of %s; the daemon moves it aside when it starts.\n", byteSize(r.TornBytes))
	}
	for _, p := range r.Problems {
		fmt.Fprintf(out, "CHANGED: %s\n", clean(p.Error()))
	}
}

func (a *app) auditCheckpointCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "checkpoint",
		Short: "Print the newest signed checkpoint of the audit log",
		Long: `Print the newest signed checkpoint of the audit log, to be kept where nobody who
can write to the home can change it. "ocmt audit verify --checkpoint FILE" then
proves that the log still holds all that was in it. The form is that of
transparency logs (C2SP tlog-checkpoint); the public key is ocmt/keys/audit.pub.`,
		Example: `  ocmt audit checkpoint > /mnt/elsewhere/ocmt.checkpoint`,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := a.publicKey("")
			if err != nil {
				return err
			}
			dir, err := a.auditLog()
			if err != nil {
				return err
			}
			signed, err := audit.LatestCheckpoint(dir, key)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(signed)
			return err
		},
	}
	return cmd
}
