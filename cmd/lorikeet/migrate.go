package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lorikeet/messages"
	"lorikeet/persistence"
	"lorikeet/persistence/badger"
	"lorikeet/persistence/migrate"
)

type migrateCommand struct {
	ConfigFile string `name:"config" short:"c" env:"LORIKEET_CONFIG" type:"path" placeholder:"FILE" help:"Configuration file (YAML), for the key-encryption key."`
	From       string `required:"" placeholder:"STORE" help:"Where the data is: badger:DIR, the data folder of a server that is stopped. It is not changed."`
	To         string `required:"" placeholder:"STORE" help:"Where it goes: badger:DIR, a folder that is empty or not there yet."`
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
	from, err := parseStorePlace("--from", c.From)
	if err != nil {
		return err
	}
	to, err := parseStorePlace("--to", c.To)
	if err != nil {
		return err
	}
	if from == to {
		return fmt.Errorf("--from and --to are both %s: name another target", from)
	}
	if _, err := os.Stat(filepath.Join(from.dir, "store")); err != nil {
		return fmt.Errorf("--from %s: there is no store: name the data folder of a server: %w", from, err)
	}
	kek, err := migrationKEK(cfg, from, to)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	source, err := from.open(cfg.Store, kek, log, cancel)
	if err != nil {
		return fmt.Errorf("--from %s: %w", from, err)
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	target, err := to.open(cfg.Store, kek, log, cancel)
	if err != nil {
		return fmt.Errorf("--to %s: %w", to, err)
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	start := time.Now()
	report, err := migrate.Run(ctx, source, target, migrate.Options{
		From: from.String(), Now: time.Now, Progress: progressTo(out, time.Now),
		Cursor: func(kind messages.Kind, app, id string) string { return integrationKey(string(kind), app, id) },
	})
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	summarize(out, report, from, to, time.Since(start))
	return nil
}

// storePlace is where a store is, as in "badger:DIR".
type storePlace struct{ dir string }

func (p storePlace) String() string { return "badger:" + p.dir }

func parseStorePlace(flag, text string) (storePlace, error) {
	scheme, dir, _ := strings.Cut(text, ":")
	if scheme != "badger" || dir == "" {
		return storePlace{}, fmt.Errorf("%s %q: use badger:DIR with the data folder of a server", flag, text)
	}
	dir, err := filepath.Abs(dir)
	return storePlace{dir}, err
}

// open keeps the whole log: what is too old is removed by the server that runs later. A folder that a server uses is refused by the store.
func (p storePlace) open(cfg StoreConfig, kek persistence.KEK, log *slog.Logger, failed func(error)) (*badger.Store, error) {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, err
	}
	return badger.Open(badger.Config{
		Dir: filepath.Join(p.dir, "store"), Sealer: persistence.NewSealer(kek), Logger: log.With("component", "store"), Retention: -1, MinFreeBytes: uint64(cfg.MinFreeBytes),
		OnFailure: func(err error) { failed(fmt.Errorf("store of %s: %w", p, err)) },
	})
}

// keyFile is where a server keeps the key-encryption key if it has not been given one.
func (p storePlace) keyFile() string { return filepath.Join(p.dir, "key-encryption-key") }

// migrationKEK gives the key of both stores: the configured one, else that of the source's folder, which is then copied into the target's.
func migrationKEK(cfg Config, from, to storePlace) (persistence.KEK, error) {
	if cfg.KEK != "" {
		return persistence.ParseKEK(string(cfg.KEK))
	}
	text, err := os.ReadFile(from.keyFile())
	if err != nil {
		return persistence.KEK{}, fmt.Errorf("no key-encryption key is configured, and the source has none: set LORIKEET_KEY_ENCRYPTION_KEY as for its server: %w", err)
	}
	if err := os.MkdirAll(to.dir, 0o700); err != nil {
		return persistence.KEK{}, err
	}
	f, err := os.OpenFile(to.keyFile(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist): // if it is another key, the target's store is not empty or will be refused
		there, err := os.ReadFile(to.keyFile())
		if err == nil && string(there) != string(text) {
			err = fmt.Errorf("%s holds another key than the source: use an empty folder", to.keyFile())
		}
		if err != nil {
			return persistence.KEK{}, err
		}
	case err != nil:
		return persistence.KEK{}, err
	default:
		_, err = f.Write(text)
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			return persistence.KEK{}, fmt.Errorf("copy the key-encryption key: %w", err)
		}
	}
	return persistence.LoadOrCreateKEK(from.keyFile())
}

// progressTo prints how far it is, at most once a second.
func progressTo(out io.Writer, now func() time.Time) func(part string, done int) {
	var last time.Time
	return func(part string, done int) {
		if t := now(); t.Sub(last) >= time.Second {
			last = t
			fmt.Fprintf(out, "%s: %d\n", part, done)
		}
	}
}

func summarize(out io.Writer, report migrate.Report, from, to storePlace, took time.Duration) {
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
}
