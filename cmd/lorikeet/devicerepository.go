package main

import (
	"log/slog"

	"lorikeet/formatters/repository"
	"lorikeet/gateways/rest"
)

// openRepository opens the device repository that the configuration names; nil if it names none.
func openRepository(cfg ScriptConfig, log *slog.Logger) (*repository.Repository, error) {
	if cfg.Repository == "" {
		return nil, nil
	}
	return repository.Open(cfg.Repository, log.With("component", "formatters"))
}

// deviceRepository is what REST shows of it; nil if there is none.
func (s *server) deviceRepository() rest.DeviceRepository {
	if s.codecs == nil {
		return nil
	}
	return s.codecs
}
