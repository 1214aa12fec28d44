package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"lorikeet/actors"
	"lorikeet/cluster"
	"lorikeet/cluster/node"
	"lorikeet/messages"
	"lorikeet/persistence"
	"lorikeet/persistence/badger"
	"lorikeet/persistence/jetstream"
	"lorikeet/persistence/migrate"
)

func parsePlace(flag, text string, cfg Config) (place, error) {
	scheme, rest, _ := strings.Cut(text, ":")
	switch {
	case scheme != "badger" && strings.Contains(text, "@"): // command lines are seen by others
		return place{}, fmt.Errorf("%s: leave user and password out of the URL and give them as nats.user and nats.password", flag)
	case scheme == "badger" && rest != "":
		dir, err := filepath.Abs(rest)
		return place{dir: dir}, err
	case (scheme == "nats" || scheme == "tls") && len(rest) > len("//"):
		return place{url: text, namespace: cfg.Cluster.Namespace}, nil
	}
	return place{}, fmt.Errorf("%s %q: use badger:DIR with the data folder of a server, or nats://HOST:PORT", flag, text)
}

// check says whether there is a store, if that can be seen from here.
func (p place) check() error {
	if p.dir == "" {
		return nil
	}
	if _, err := os.Stat(filepath.Join(p.dir, "store")); err != nil {
		return fmt.Errorf("there is no store: name the data folder of a server: %w", err)
	}
	return nil
}

// keyFile is where a server keeps the key-encryption key if it has not been given one.
func (p place) keyFile() string { return filepath.Join(p.dir, "key-encryption-key") }

// checkKeyFile refuses a store that has lost its key file: a new key would not open it, and would stand where the right one has to be put back.
func (p place) checkKeyFile() error {
	if _, err := os.Stat(p.keyFile()); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	store := filepath.Join(p.dir, "store")
	if files, err := os.ReadDir(store); err != nil || len(files) == 0 {
		return nil
	}
	return fmt.Errorf("the store in %s is sealed, and its key is missing: put the file %s back, or set LORIKEET_KEY_ENCRYPTION_KEY to the key", store, p.keyFile())
}

// migrationKEK gives the key of both stores: the configured one, else that of a data folder. The key of the source's folder is copied to the target's.
func migrationKEK(cfg Config, from, to place) (persistence.KEK, error) {
	if cfg.KEK != "" {
		return persistence.ParseKEK(string(cfg.KEK))
	}
	holder := from
	if from.dir == "" {
		holder = to
	}
	const hint = "set LORIKEET_KEY_ENCRYPTION_KEY to the key of its servers"
	if holder.dir == "" {
		return persistence.KEK{}, errors.New("no key-encryption key is at hand: " + hint)
	}
	key, err := os.ReadFile(holder.keyFile())
	if err != nil {
		return persistence.KEK{}, fmt.Errorf("no key-encryption key is at hand: "+hint+", or put their key file there: %w", err)
	}
	if from.dir != "" && to.dir != "" {
		if err := copyKey(key, to); err != nil {
			return persistence.KEK{}, err
		}
	}
	return persistence.LoadOrCreateKEK(holder.keyFile())
}

func copyKey(key []byte, to place) error {
	if err := os.MkdirAll(to.dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(to.keyFile(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		there, err := os.ReadFile(to.keyFile())
		if err == nil && string(there) != string(key) {
			err = fmt.Errorf("%s holds another key than the source: use an empty folder", to.keyFile())
		}
		return err
	}
	if err != nil {
		return err
	}
	_, err = f.Write(key)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("copy the key-encryption key: %w", err)
	}
	return nil
}

// end is an open store of a migration.
type end struct {
	migrate.Target
	session func(ctx context.Context, id messages.DeviceID, record []byte) error // of migrate.Options
	closers []func() error                                                       // the first one last
}

func (e *end) close() error {
	var errs []error
	for i := range e.closers {
		errs = append(errs, e.closers[len(e.closers)-1-i]())
	}
	return errors.Join(errs...)
}

// opener opens stores with nothing that removes entries of their logs: what is too old is removed by the server that runs later.
type opener struct {
	cfg    Config
	kek    persistence.KEK
	log    *slog.Logger
	failed func(error)
}

// source opens what is there already, see check.
func (o opener) source(ctx context.Context, p place) (*end, error) {
	if p.dir == "" {
		return o.nats(ctx, p, true)
	}
	return o.badger(p)
}

func (o opener) target(ctx context.Context, p place) (*end, error) {
	if p.dir == "" {
		return o.nats(ctx, p, false)
	}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, err
	}
	return o.badger(p)
}

// badger refuses a folder that a server uses: the store is locked.
func (o opener) badger(p place) (*end, error) {
	s, err := badger.Open(badger.Config{
		Dir: filepath.Join(p.dir, "store"), Sealer: persistence.NewSealer(o.kek), Logger: o.log.With("component", "store"), Retention: -1,
		MinFreeBytes: uint64(o.cfg.Store.MinFreeBytes), OnFailure: func(err error) { o.failed(fmt.Errorf("store of %s: %w", p, err)) },
	})
	if err != nil {
		return nil, err
	}
	return &end{Target: s, closers: []func() error{s.Close}}, nil
}

// nats refuses a namespace in which nodes run.
func (o opener) nats(ctx context.Context, p place, mustExist bool) (_ *end, err error) {
	nc, err := jetstream.Connect(natsOptions(o.cfg.NATS, split(p.url), "lorikeet migrate"))
	if err != nil {
		return nil, err
	}
	e := &end{closers: []func() error{func() error { nc.Close(); return nil }}}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := o.checkAlone(ctx, nc, p, mustExist); err != nil {
		return nil, err
	}
	s, err := jetstream.Open(ctx, jetstream.Config{
		Domain: o.cfg.NATS.Domain,
		Conn:   nc, Namespace: p.namespace, Replicas: o.cfg.Cluster.Replicas, Journals: o.cfg.Cluster.Streams, Sealer: persistence.NewSealer(o.kek),
		Retention: -1, Logger: o.log.With("component", "store"),
	})
	if err != nil {
		return nil, err
	}
	e.Target, e.closers = s, append(e.closers, s.Close)
	if !mustExist {
		directory, err := cluster.OpenShared(ctx, s, o.log.With("component", "directory"))
		if err != nil {
			return nil, err
		}
		e.closers = append(e.closers, func() error { directory.Close(); return nil })
		e.session = func(ctx context.Context, id messages.DeviceID, record []byte) error {
			return putEntries(ctx, directory, id, record)
		}
	}
	return e, nil
}

func (o opener) checkAlone(ctx context.Context, nc *nats.Conn, p place, mustExist bool) error {
	if exists, err := jetstream.Exists(ctx, nc, o.cfg.NATS.Domain, p.namespace); err != nil {
		return err
	} else if !exists && mustExist {
		return fmt.Errorf("there is no store: check the namespace")
	}
	js, _, err := jetstream.Domain(nc, o.cfg.NATS.Domain)
	if err != nil {
		return err
	}
	running, err := node.Running(ctx, js, p.namespace, o.cfg.Cluster.Lease)
	if err == nil && len(running) > 0 {
		err = fmt.Errorf("nodes run on it (%s): stop them first", strings.Join(running, ", "))
	}
	return err
}

// putEntries tells the directory of a cluster how the device of a session is found.
func putEntries(ctx context.Context, directory *cluster.Shared, id messages.DeviceID, record []byte) error {
	if record == nil {
		return directory.Prepare(ctx, id)
	}
	entries, err := actors.SessionEntries(record)
	if err != nil || len(entries) == 0 {
		return err
	}
	return directory.Prepare(ctx, id, entries...)
}
