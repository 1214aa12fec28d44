// Command lorikeet is a LoRaWAN server in one binary: radio gateways, devices, MQTT, webhooks, NATS and REST, with nothing else to install.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"lorikeet/formatters"
)

// version is set by the Makefile; without it, what the build knows is used.
var version = "dev"

// cli are the sub-commands.
type cli struct {
	Serve       serveCommand       `cmd:"" help:"Run the server. Without flags it keeps its data in ./lorikeet-data and listens on the ports of The Things Stack."`
	Simulate    simulateCommand    `cmd:"" help:"Run simulated radio gateways and devices against a server."`
	Demo        demoCommand        `cmd:"" help:"Run a server with a demo application and simulated devices, and print decoded events."`
	Migrate     migrateCommand     `cmd:"" help:"Copy all data of a server that is stopped to another store."`
	NATS        natsCommand        `cmd:"" name:"nats" help:"Run only the embedded NATS server of a node that is stopped, for migrate, backups and the nats tool."`
	ClusterDemo clusterDemoCommand `cmd:"" name:"cluster-demo" help:"Run three nodes and simulated devices on this machine, kill a node, and print decoded events all the while."`
	Formatter   formatterCommand   `cmd:"" help:"Work with payload formatters."`
	Device      deviceCommand      `cmd:"" help:"List, show, import, export and delete devices of a server."`
	Config      configCommand      `cmd:"" help:"Print the effective configuration, each key with what it means."`
	Version     versionCommand     `cmd:"" help:"Print the version."`

	ShowVersion kong.VersionFlag `name:"version" help:"Print the version."`
}

// configFlags are shared by all commands that read the configuration. Flags win over the environment, which wins over the file.
type configFlags struct {
	ConfigFile string `name:"config" short:"c" env:"LORIKEET_CONFIG" type:"path" placeholder:"FILE" help:"Configuration file (YAML)."`
	Data       string `placeholder:"DIR" help:"Folder of the store."`
	HTTP       string `name:"http" placeholder:"ADDR" help:"Address of the REST API (default :1885)."`
	MQTT       string `name:"mqtt" placeholder:"ADDR" help:"Address of the MQTT broker (default :1883)."`
	UDP        string `name:"udp" placeholder:"ADDR" help:"Address for radio gateways that speak Semtech UDP (default :1700)."`
	PublicURL  string `name:"public-url" placeholder:"URL" help:"How webhook receivers reach this server."`
	Cluster    string `name:"cluster" placeholder:"URL" help:"NATS servers of the cluster, nats://host:port, or embedded (default: a single node)."`
	Node       string `name:"node" placeholder:"NAME" help:"Name of this node in the cluster (default: the host name)."`
	LogLevel   string `name:"log-level" placeholder:"LEVEL" help:"debug, info, warn or error."`
}

func (f *configFlags) load() (Config, error) {
	cfg := DefaultConfig()
	if f.ConfigFile != "" {
		if err := cfg.readFile(f.ConfigFile); err != nil {
			return cfg, fmt.Errorf("configuration: %w", err)
		}
	}
	if err := cfg.readEnv(os.LookupEnv); err != nil {
		return cfg, fmt.Errorf("configuration: %w", err)
	}
	for _, o := range []struct {
		flag string
		key  *string
	}{{f.Data, &cfg.Data}, {f.HTTP, &cfg.HTTP.Listen}, {f.MQTT, &cfg.MQTT.Listen}, {f.UDP, &cfg.UDP.Listen}, {f.PublicURL, &cfg.HTTP.PublicURL}, {f.Cluster, &cfg.Cluster.URL}, {f.Node, &cfg.Cluster.Node}, {f.LogLevel, &cfg.Log.Level}} {
		if o.flag != "" {
			*o.key = o.flag
		}
	}
	if err := cfg.Validate(); err != nil {
		return cfg, fmt.Errorf("configuration: %w", err)
	}
	return cfg, nil
}

type serveCommand struct {
	configFlags
	CPUProfile string `name:"cpu-profile" type:"path" placeholder:"FILE" help:"Write a CPU profile of the whole run, for go tool pprof."`
}

// Run serves until SIGTERM or SIGINT, then finishes what was accepted.
func (c *serveCommand) Run(ctx context.Context) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	stopProfile, err := startProfile(c.CPUProfile)
	if err != nil {
		return err
	}
	defer stopProfile()
	log := newLogger(cfg.Log, os.Stderr)
	for _, v := range cfg.unknownVariables(os.Environ()) {
		log.Warn("environment variable is not known and has no effect", "name", v[0], "perhaps", v[1])
	}
	log.Info("starting", "version", buildVersion(), "data", cfg.Data)
	s, err := startServer(ctx, cfg, log, os.Stdout)
	if err != nil {
		return err
	}
	s.announce(os.Stdout)
	var failure error
	select {
	case <-ctx.Done():
		log.Info("stopping; what was accepted is finished first")
	case failure = <-s.failed:
		log.Error("a part can't go on; stopping, so that the next start finds out what is durable", "err", failure)
	}
	patience := 15 * time.Second
	if errors.As(failure, &lostError{}) {
		patience = 3 * time.Second // others do the work by now, and nothing here can be finished
	}
	closing, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Close(closing); err != nil {
		return errors.Join(failure, fmt.Errorf("stop: %w", err))
	}
	log.Info("stopped")
	return failure
}

// startProfile does nothing if path is empty.
func startProfile(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("CPU profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("CPU profile: %w", err)
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close()
	}, nil
}

// announce tells a person where the parts listen.
func (s *server) announce(w io.Writer) {
	fmt.Fprintf(w, "Lorikeet is ready: REST %s", s.rest.Addr())
	if address := s.rest.TLSAddr(); address != "" {
		fmt.Fprintf(w, ", REST over TLS %s", address)
	}
	if s.broker != nil {
		for _, door := range []struct{ name, address string }{
			{"MQTT", s.broker.Addr()}, {"MQTT over TLS", s.broker.TLSAddr()}, {"MQTT over WebSocket", s.broker.WebSocketAddr(false)}, {"MQTT over WebSocket with TLS", s.broker.WebSocketAddr(true)},
		} {
			if door.address != "" {
				fmt.Fprintf(w, ", %s %s", door.name, door.address)
			}
		}
	}
	if s.udp != nil {
		fmt.Fprintf(w, ", radio gateways (Semtech UDP) %s", s.udp.Addr())
	}
	fmt.Fprintln(w)
}

type configCommand struct {
	configFlags
}

func (c *configCommand) Run() error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	for _, v := range cfg.unknownVariables(os.Environ()) {
		fmt.Fprintf(os.Stderr, "lorikeet: environment variable %s is not known and has no effect", v[0])
		if v[1] != "" {
			fmt.Fprintf(os.Stderr, "; did you mean %s?", v[1])
		}
		fmt.Fprintln(os.Stderr)
	}
	return cfg.Write(os.Stdout)
}

type versionCommand struct{}

func (versionCommand) Run() error {
	fmt.Println("lorikeet " + buildVersion())
	return nil
}

func buildVersion() string {
	if version != "dev" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return version
}

// workerCommand is how the server calls itself to run payload formatters; it is not for people.
const workerCommand = "formatter-worker"

func main() {
	if len(os.Args) == 2 && os.Args[1] == workerCommand {
		if err := formatters.RunWorker(os.Stdin, os.Stdout); err != nil {
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if len(os.Args) > 1 && os.Args[1] == "help" {
		os.Args = append(append(os.Args[:1:1], os.Args[2:]...), "--help")
	}
	k := kong.Parse(&cli{}, kong.Name("lorikeet"), kong.Description("A LoRaWAN server in one binary."), kong.UsageOnError(),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Vars{"version": "lorikeet " + buildVersion()})
	if err := k.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "lorikeet: "+strings.TrimSpace(err.Error()))
		stop()
		if errors.As(err, &lostError{}) {
			os.Exit(exitLost)
		}
		os.Exit(1)
	}
}
