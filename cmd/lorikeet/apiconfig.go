package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"lorikeet/gateways/rest"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

func (c APIConfig) validate() (errs []error) {
	if _, err := c.input(); err != nil {
		errs = append(errs, fmt.Errorf("api.input: %w", err))
	}
	if c.DevEUIBlock != "" {
		if _, _, err := parseEUIBlock(c.DevEUIBlock); err != nil {
			errs = append(errs, fmt.Errorf("api.dev_eui_block: %w", err))
		}
	}
	return errs
}

func (c APIConfig) input() (v3.Input, error) {
	switch c.Input {
	case "strict":
		return v3.Strict, nil
	case "lenient":
		return v3.Lenient, nil
	}
	return v3.Strict, fmt.Errorf("%q: use strict or lenient", c.Input)
}

// parseEUIBlock reads <EUI>/<bits>. What is not fixed must be zero.
func parseEUIBlock(text string) (first messages.EUI64, bits int, err error) {
	eui, length, ok := strings.Cut(text, "/")
	if first, err = messages.ParseEUI64(eui); err == nil && ok {
		bits, err = strconv.Atoi(length)
	}
	if err != nil || !ok || bits < 1 || bits > 64 || binary.BigEndian.Uint64(first[:])<<bits != 0 {
		return first, 0, fmt.Errorf("%q: use the first EUI of the block and the number of fixed bits, e.g. 70B3D57ED0000000/40", text)
	}
	return first, bits, nil
}

// completeREST adds what the API tells of the network and its events, and how it takes input.
func (s *server) completeREST(cfg rest.Config) (rest.Config, error) {
	var err error
	if cfg.NetID, err = parseNetID(s.cfg.NetID); err != nil {
		return cfg, err
	}
	cfg.DevAddrs, cfg.EventLog, cfg.Watch, cfg.Origin = s.directory.DevAddrs, s.store, s.registry.Watch, "lorikeet"
	cfg.WatchLogins = s.watchLogins
	cfg.WatchDeliveries = s.notices.watch
	if s.clustered != nil {
		cfg.Origin = s.clustered.name
	}
	if cfg.Input, err = s.cfg.API.input(); err != nil {
		return cfg, err
	}
	if s.cfg.API.DevEUIBlock == "" {
		return cfg, nil
	}
	first, bits, err := parseEUIBlock(s.cfg.API.DevEUIBlock)
	cfg.IssueDevEUI = func(ctx context.Context) (messages.EUI64, error) { return s.registry.IssueDevEUI(ctx, first, bits) }
	return cfg, err
}
