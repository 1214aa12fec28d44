package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"lorikeet/actors"
	"lorikeet/gateways/broker"
	"lorikeet/gateways/rest"
	"lorikeet/messages"
	"lorikeet/persistence"
	"lorikeet/persistence/badger"
	"lorikeet/persistence/migrate"
	"lorikeet/persistence/registry"
)

// store is what a server asks of its store, be it embedded or shared by many nodes.
type store interface {
	actors.SessionStore
	actors.IntegrationLog
	registry.Store
	broker.Store
	rest.History
	SetRetention(applicationID string, r messages.Retention)
	DeleteApplication(ctx context.Context, applicationID string) error
	Ready() error
	Close() error
}

func (s *server) openStore(ctx context.Context) error {
	if err := os.MkdirAll(s.cfg.Data, 0o700); err != nil {
		return fmt.Errorf("data folder: %w: name one that can be made or written to with --data", err)
	}
	kek, err := s.kek()
	if err != nil {
		return err
	}
	if s.cfg.clustered() {
		err = s.openSharedStore(ctx, kek)
	} else {
		err = s.openBadger(kek)
	}
	if err != nil {
		return err
	}
	if err := migrate.Check(ctx, s.store); err != nil {
		return err
	}
	keks, err := s.cfg.KEKs.parse()
	if err != nil {
		return fmt.Errorf("keks: %w", err)
	}
	s.registry, err = registry.Open(ctx, s.store, registry.Config{
		Clock: time.Now, Rand: rand.Reader, Log: s.log, KEKs: keks, OnFailure: func(err error) { s.failed <- fmt.Errorf("registry: %w", err) },
	})
	if err != nil {
		return err
	}
	return s.ensureAdminKey(ctx)
}

// ensureAdminKey shows a key that is made at once: it can't be read again, and what is yet to start may fail, say, for a port that is in use.
func (s *server) ensureAdminKey(ctx context.Context) (err error) {
	if s.createdKey, err = s.registry.EnsureAdminKey(ctx, string(s.cfg.AdminKey)); err != nil || s.createdKey == "" {
		return err
	}
	if _, err := fmt.Fprintf(s.out, "\nAdmin API key, shown only now:\n\n    %s\n\n", s.createdKey); err != nil {
		return fmt.Errorf("the admin API key that was made can't be shown; set LORIKEET_ADMIN_KEY for a way in: %w", err)
	}
	return nil
}

func (s *server) openBadger(kek persistence.KEK) error {
	b, err := badger.Open(badger.Config{
		Dir: filepath.Join(s.cfg.Data, "store"), Sealer: persistence.NewSealer(kek), Logger: s.log.With("component", "store"), Metrics: s.metrics,
		Retention: s.cfg.Store.Retention, MinFreeBytes: uint64(s.cfg.Store.MinFreeBytes),
		OnFailure: func(err error) { s.failed <- fmt.Errorf("store: %w", err) },
	})
	if err != nil {
		return err
	}
	s.store = b
	return nil
}

func (s *server) kek() (persistence.KEK, error) {
	if s.cfg.KEK != "" {
		return persistence.ParseKEK(string(s.cfg.KEK))
	}
	here := place{dir: s.cfg.Data}
	if err := here.checkKeyFile(); err != nil {
		return persistence.KEK{}, err
	}
	return persistence.LoadOrCreateKEK(here.keyFile())
}

// ready says why the server can't take work now.
func (s *server) ready() error {
	if s.clustered != nil {
		if err := s.clustered.node.Suspended(); err != nil {
			return err
		}
	}
	return s.store.Ready()
}
