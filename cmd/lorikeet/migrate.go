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

	"github.com/nats-io/nats.go"

	"lorikeet/actors"
	"lorikeet/cluster"
	"lorikeet/messages"
	"lorikeet/persistence"
	"lorikeet/persistence/badger"
	"lorikeet/persistence/jetstream"
	"lorikeet/persistence/migrate"
)

type migrateCommand struct {
	ConfigFile string `name:"config" short:"c" env:"LORIKEET_CONFIG" type:"path" placeholder:"FILE" help:"Configuration file (YAML), for the key-encryption key."`
	From       string `required:"" placeholder:"STORE" help:"Where the data is: badger:DIR, the data folder of a server that is stopped, or nats://HOST:PORT, a cluster whose nodes are stopped. It is not changed."`
	To         string `required:"" placeholder:"STORE" help:"Where it goes: badger:DIR, a folder that is empty or not there yet, or nats://HOST:PORT, where there is no cluster of this name yet."`
	Namespace  string `placeholder:"NAME" help:"Of the cluster, if it has another than the configuration says."`
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
	if c.Namespace != "" {
		cfg.Cluster.Namespace = c.Namespace
	}
	if _, err := os.Stat(filepath.Join(from.dir, "store")); err != nil && from.url == "" {
		return fmt.Errorf("--from %s: there is no store: name the data folder of a server: %w", from, err)
	}
	kek, err := migrationKEK(cfg, from, to)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	source, err := from.open(ctx, cfg, kek, log, cancel)
	if err != nil {
		return fmt.Errorf("--from %s: %w", from, err)
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	target, err := to.open(ctx, cfg, kek, log, cancel)
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
	if shared, ok := target.(*clusterStore); ok {
		if err := fillDirectory(ctx, shared, log); err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
	}
	summarize(out, report, from, to, time.Since(start))
	return nil
}

// storePlace is where a store is, as in "badger:DIR" or "nats://HOST:PORT".
type storePlace struct{ dir, url string }

func (p storePlace) String() string {
	if p.url != "" {
		return p.url
	}
	return "badger:" + p.dir
}

func parseStorePlace(flag, text string) (storePlace, error) {
	scheme, dir, _ := strings.Cut(text, ":")
	switch {
	case strings.Contains(text, "@"):
		return storePlace{}, fmt.Errorf("%s: leave user and password out of the URL and give them as nats.user and nats.password", flag)
	case (scheme == "nats" || scheme == "tls") && strings.HasPrefix(dir, "//"):
		return storePlace{url: text}, nil
	case scheme != "badger" || dir == "":
		return storePlace{}, fmt.Errorf("%s %q: use badger:DIR with the data folder of a server, or nats://HOST:PORT", flag, text)
	}
	dir, err := filepath.Abs(dir)
	return storePlace{dir: dir}, err
}

// migrationStore is a store that can be both ends of a migration.
type migrationStore interface {
	migrate.Source
	migrate.Target
	Close() error
}

// clusterStore closes its connection with the store.
type clusterStore struct {
	*jetstream.Store
	conn *nats.Conn
}

func (s *clusterStore) Close() error {
	defer s.conn.Close()
	return s.Store.Close()
}

// open keeps the whole log: what is too old is removed by the server that runs later. A folder that a server uses is refused by the store.
func (p storePlace) open(ctx context.Context, cfg Config, kek persistence.KEK, log *slog.Logger, failed func(error)) (migrationStore, error) {
	log = log.With("component", "store")
	if p.url != "" {
		return p.openCluster(ctx, cfg, kek, log)
	}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, err
	}
	return badger.Open(badger.Config{
		Dir: filepath.Join(p.dir, "store"), Sealer: persistence.NewSealer(kek), Logger: log, Retention: -1, MinFreeBytes: uint64(cfg.Store.MinFreeBytes),
		OnFailure: func(err error) { failed(fmt.Errorf("store of %s: %w", p, err)) },
	})
}

func (p storePlace) openCluster(ctx context.Context, cfg Config, kek persistence.KEK, log *slog.Logger) (*clusterStore, error) {
	conn, err := jetstream.Connect(natsOptions(cfg.NATS, split(p.url), "lorikeet migrate"))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	s, err := jetstream.Open(ctx, jetstream.Config{
		Conn: conn, Namespace: cfg.Cluster.Namespace, Replicas: cfg.Cluster.Replicas, Journals: cfg.Cluster.Streams, Sealer: persistence.NewSealer(kek), Retention: -1, Logger: log,
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &clusterStore{s, conn}, nil
}

// fillDirectory makes the sessions known by which the nodes of a cluster find devices.
func fillDirectory(ctx context.Context, s *clusterStore, log *slog.Logger) error {
	shared, err := cluster.OpenShared(ctx, s.Store, log)
	if err != nil {
		return err
	}
	defer shared.Close()
	if err := actors.LoadIndex(ctx, &actors.DeviceConfig{Store: s.Store, Index: shared}); err != nil {
		return fmt.Errorf("directory: %w", err)
	}
	if err := shared.Flush(ctx); err != nil {
		return fmt.Errorf("directory: %w", err)
	}
	return nil
}

// keyFile is where a server keeps the key-encryption key if it has not been given one.
func (p storePlace) keyFile() string { return filepath.Join(p.dir, "key-encryption-key") }

// migrationKEK gives the key of both stores: the configured one, else that of the source's folder, which is then copied into the target's.
func migrationKEK(cfg Config, from, to storePlace) (persistence.KEK, error) {
	if cfg.KEK != "" {
		return persistence.ParseKEK(string(cfg.KEK))
	}
	if from.url != "" {
		return persistence.KEK{}, errors.New("a cluster has no key-encryption key in a folder: set LORIKEET_KEY_ENCRYPTION_KEY as for its nodes")
	}
	text, err := os.ReadFile(from.keyFile())
	if err != nil {
		return persistence.KEK{}, fmt.Errorf("no key-encryption key is configured, and the source has none: set LORIKEET_KEY_ENCRYPTION_KEY as for its server: %w", err)
	}
	if to.url != "" { // its nodes are to be given the key by whoever runs them
		return persistence.ParseKEK(string(text))
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
