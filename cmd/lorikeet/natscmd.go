package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"lorikeet/persistence/jetstream/natsserver"
)

// natsCommand runs what a stopped node keeps its store in.
type natsCommand struct {
	configFlags
}

// Run serves NATS clients until SIGTERM or SIGINT.
func (c *natsCommand) Run(ctx context.Context) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if !cfg.embedded() || cfg.Embedded.Listen == "" {
		return errors.New("only the embedded NATS server of a node can be run: set cluster.url to embedded, and embedded_nats.listen to the address for its clients, such as 127.0.0.1:4222")
	}
	name, err := cfg.nodeName()
	if err != nil {
		return err
	}
	server, err := natsserver.Start(ctx, embeddedServer(cfg, name, newLogger(cfg.Log, os.Stderr)))
	if err != nil {
		return err
	}
	defer server.Close()
	fmt.Printf("NATS is ready: %s\n", server.ClientURL())
	<-ctx.Done()
	return nil
}

// embeddedServer is the NATS server of a node as it is configured.
func embeddedServer(cfg Config, name string, log *slog.Logger) natsserver.Config {
	e := cfg.Embedded
	if e.Peers == "" {
		e.ClusterListen = "" // alone
	}
	return natsserver.Config{
		Name: name, ClusterName: cfg.Cluster.Namespace, StoreDir: filepath.Join(cfg.Data, "nats"), Listen: e.Listen, ClusterListen: e.ClusterListen,
		Routes: split(e.Peers), Secret: string(e.Secret), Logger: log.With("component", "nats"),
	}
}

// nodeName is what this node is called in the cluster.
func (c *Config) nodeName() (string, error) {
	if c.Cluster.Node != "" {
		return c.Cluster.Node, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("cluster.node: give this node a name: %w", err)
	}
	return name, nil
}
