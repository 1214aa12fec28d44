package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"lorikeet/messages"
	"lorikeet/persistence/migrate"
)

type migrateCommand struct {
	ConfigFile string `name:"config" short:"c" env:"LORIKEET_CONFIG" type:"path" placeholder:"FILE" help:"Configuration file (YAML): the key-encryption key, how to reach NATS, how a new cluster is laid out."`
	From       string `required:"" placeholder:"STORE" help:"Where the data is: badger:DIR, the data folder of a server, or nats://HOST:PORT. Its servers must be stopped. It is not changed."`
	To         string `required:"" placeholder:"STORE" help:"Where it goes: badger:DIR or nats://HOST:PORT. There must be nothing yet."`
	Namespace  string `placeholder:"NAME" help:"Namespace of the cluster in NATS (default: cluster.namespace of the configuration)."`
}

// Run copies a whole store while no server runs on it.
func (c *migrateCommand) Run(ctx context.Context) error {
	cfg, err := (&configFlags{ConfigFile: c.ConfigFile}).load()
	if err != nil {
		return err
	}
	return c.migrate(ctx, cfg, newLogger(cfg.Log, os.Stderr), os.Stdout)
}

func (c *migrateCommand) migrate(ctx context.Context, cfg Config, log *slog.Logger, out io.Writer) (err error) {
	if c.Namespace != "" {
		cfg.Cluster.Namespace = c.Namespace
	}
	from, err := parsePlace("--from", c.From, cfg)
	if err != nil {
		return err
	}
	to, err := parsePlace("--to", c.To, cfg)
	if err != nil {
		return err
	}
	if from == to {
		return fmt.Errorf("--from and --to are both %s: name another target", from)
	}
	if err := from.check(); err != nil {
		return fmt.Errorf("--from %s: %w", from, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	opening := opener{cfg: cfg, log: log, failed: cancel}
	if opening.kek, err = migrationKEK(cfg, from, to); err != nil {
		return err
	}
	source, err := opening.source(ctx, from)
	if err != nil {
		return fmt.Errorf("--from %s: %w", from, err)
	}
	defer func() { err = errors.Join(err, source.close()) }()
	target, err := opening.target(ctx, to)
	if err != nil {
		return fmt.Errorf("--to %s: %w", to, err)
	}
	defer func() { err = errors.Join(err, target.close()) }()
	start := time.Now()
	report, err := migrate.Run(ctx, source, target, migrate.Options{
		From: from.String(), Now: time.Now, Session: target.session, Progress: progressTo(out, time.Now),
		Cursor: func(kind messages.Kind, app, id string) string { return integrationKey(string(kind), app, id) },
	})
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	summarize(out, report, from, to, time.Since(start))
	return nil
}

// progressTo prints how far it is, at most once a second.
func progressTo(out io.Writer, now func() time.Time) func(part string, done int) {
	last := now()
	return func(part string, done int) {
		if t := now(); t.Sub(last) >= time.Second {
			last = t
			fmt.Fprintf(out, "%s: %d\n", part, done)
		}
	}
}

func summarize(out io.Writer, report migrate.Report, from, to place, took time.Duration) {
	if report.Anew {
		fmt.Fprintln(out, "An earlier migration had not come to its end; what it had written was removed first.")
	}
	fmt.Fprintf(out, "Copied and compared in %s, from %s to %s:\n", took.Round(time.Millisecond), from, to)
	for _, line := range []struct {
		what string
		n    int
	}{
		{"applications", report.Documents[messages.KindApplication]}, {"devices", report.Documents[messages.KindDevice]}, {"sessions", report.Sessions},
		{"radio gateways", report.Documents[messages.KindRadioGateway]}, {"webhooks", report.Documents[messages.KindWebhook]},
		{"pub/sub integrations", report.Documents[messages.KindPubSub]}, {"API keys", report.Documents[messages.KindAPIKey]},
		{"events", report.Events}, {"places of integrations", report.Cursors},
	} {
		fmt.Fprintf(out, "  %8d %s\n", line.n, line.what)
	}
	fmt.Fprintln(out, "Start the server on the target now, and not on the source again: devices must not meet two servers that both count their frames.")
	if from.dir != "" && to.url != "" {
		fmt.Fprintf(out, "All nodes of the cluster need the key-encryption key of this server: the one that is configured, or a copy of %s in their data folders.\n", from.keyFile())
	}
}

// place is where a store is: the data folder of a server, or NATS servers and a namespace.
type place struct{ dir, url, namespace string }

func (p place) String() string {
	if p.dir != "" {
		return "badger:" + p.dir
	}
	return p.url + " namespace " + p.namespace
}
