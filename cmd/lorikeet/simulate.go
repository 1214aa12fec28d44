package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"lorikeet/cmd/lorikeet/simulator"
	"lorikeet/messages"
)

// simulateCommand has a flag for each setting of the simulator that a person needs.
type simulateCommand struct {
	UDP      string `name:"udp" default:"127.0.0.1:1700" placeholder:"ADDR" help:"Semtech UDP address of the server; several, for the nodes of a cluster, separated by commas."`
	HTTP     string `name:"http" default:"http://127.0.0.1:1885" placeholder:"URL" help:"REST API, to register the devices; empty: they are registered already; several as for --udp."`
	MQTT     string `name:"mqtt" default:"tcp://127.0.0.1:1883" placeholder:"URL" help:"MQTT broker, to watch the events; empty: they are not watched; several as for --udp."`
	Webhook  string `name:"webhook-listen" placeholder:"ADDR" help:"Receive webhooks here, e.g. 127.0.0.1:0, and judge each uplink by them; the servers must reach the address."`
	Resend   bool   `default:"true" negatable:"" help:"A radio gateway that moves to another server sends again there what was not acknowledged."`
	AdminKey string `name:"admin-key" env:"LORIKEET_ADMIN_KEY" placeholder:"KEY" help:"Admin API key, for REST."`
	APIKey   string `name:"api-key" env:"LORIKEET_API_KEY" placeholder:"KEY" help:"API key of the application, for MQTT; empty: one is made over REST."`

	Application   string  `default:"simulation" placeholder:"ID" help:"Application of the devices; made if it is missing."`
	Formatter     string  `placeholder:"FILE" help:"Default formatter of the application: a .lua or .js file, or \"cayennelpp\"; empty: it is left as it is."`
	Devices       int     `default:"10" help:"Number of devices."`
	Gateways      int     `default:"1" help:"Number of radio gateways."`
	Copies        int     `default:"1" help:"How many radio gateways hear each uplink."`
	Activation    string  `default:"OTAA" enum:"OTAA,ABP" help:"OTAA or ABP."`
	Region        string  `default:"EU868" enum:"EU868,US915" help:"EU868 or US915."`
	SubBand       int     `default:"2" help:"US915: 1 to 8."`
	DataRate      int     `default:"-1" help:"Data rate of uplinks; -1: the fastest at 125 kHz."`
	Payload       string  `default:"cayennelpp" help:"hex:0102, counter, cayennelpp or random:16 (bytes)."`
	FPort         uint8   `name:"f-port" default:"1" help:"FPort of uplinks."`
	Confirmed     float64 `default:"0" help:"Share of confirmed uplinks, 0 to 1."`
	DownlinkEvery int     `default:"0" help:"Push a downlink over MQTT for one in so many uplinks; 0: none."`
	ConfirmedDown bool    `name:"confirmed-downlinks" help:"Pushed downlinks are confirmed."`

	Rate     float64       `default:"1" help:"Uplinks a second, of all devices together."`
	Duration time.Duration `default:"1m" help:"Length of the run; 0: until --count."`
	Count    int           `default:"0" help:"Number of uplinks; 0: until --duration."`
	JoinRate float64       `default:"0" help:"Join-requests a second; 0: 8 for each radio gateway, since each can send only one join-accept at a time."`
	Drain    time.Duration `default:"15s" help:"How long to wait for the last events."`
	QoS      uint8         `name:"qos" default:"1" help:"Of the MQTT subscription and of pushed downlinks."`
	Persist  bool          `name:"persistent" help:"Keep the MQTT session over lost connections."`

	Seed      uint64 `default:"0" help:"Of ids, EUIs and keys: the same seed finds the same devices; 0: new devices."`
	StateFile string `placeholder:"FILE" type:"path" help:"Keeps DevNonces and counters from run to run."`

	Fault      string  `placeholder:"ERROR" help:"What radio gateways answer to a share of the downlinks, e.g. TOO_LATE."`
	FaultShare float64 `default:"0" help:"That share, 0 to 1."`
	FaultRX1   bool    `name:"fault-rx1" help:"Only downlinks for RX1 fail."`

	PrintEvents bool `help:"Print each event."`
	JSON        bool `name:"json" help:"Print the report as JSON."`
}

// Run plays the devices and prints what the server made of them. It fails if the server lost or repeated something.
func (c *simulateCommand) Run(ctx context.Context) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	report, err := simulator.Run(ctx, cfg, os.Stderr)
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	if c.JSON {
		err = json.NewEncoder(os.Stdout).Encode(report)
	} else {
		err = report.WriteTable(os.Stdout)
	}
	if err != nil {
		return err
	}
	if problems := report.Problems(); len(problems) > 0 && ctx.Err() == nil {
		return errors.New(strings.Join(problems, "; "))
	}
	return nil
}

func (c *simulateCommand) config() (simulator.Config, error) {
	cfg := simulator.DefaultConfig()
	cfg.UDP, cfg.HTTP, cfg.MQTT, cfg.AdminKey, cfg.APIKey, cfg.ApplicationID = c.UDP, c.HTTP, c.MQTT, c.AdminKey, c.APIKey, c.Application
	cfg.Devices, cfg.Gateways, cfg.Copies, cfg.Activation, cfg.Region = c.Devices, c.Gateways, c.Copies, simulator.Activation(c.Activation), simulator.Region(c.Region)
	cfg.SubBand, cfg.DataRate, cfg.Payload, cfg.FPort, cfg.Confirmed = c.SubBand, c.DataRate, c.Payload, c.FPort, c.Confirmed
	cfg.DownlinkEvery, cfg.ConfirmedDownlink, cfg.Rate, cfg.Duration, cfg.Count = c.DownlinkEvery, c.ConfirmedDown, c.Rate, c.Duration, c.Count
	cfg.JoinRate, cfg.Drain, cfg.QoS, cfg.Persistent, cfg.Seed, cfg.StateFile = c.JoinRate, c.Drain, c.QoS, c.Persist, c.Seed, c.StateFile
	cfg.WebhookListen, cfg.Forget = c.Webhook, !c.Resend
	cfg.Fault, cfg.FaultShare, cfg.FaultRX1 = messages.TxError(c.Fault), c.FaultShare, c.FaultRX1
	if cfg.JoinRate == 0 {
		cfg.JoinRate = 8 * float64(c.Gateways)
	}
	if cfg.Seed == 0 {
		cfg.Seed = rand.Uint64N(1<<32) + 1
		fmt.Fprintf(os.Stderr, "new devices: find them again with --seed %d, and with --state-file if they are to go on where they stopped\n", cfg.Seed)
	}
	if cfg.Rate > 100 { // many frames a second share datagrams, as radio gateways do it
		cfg.Batch = 4
	}
	if c.PrintEvents {
		cfg.Event = printEvent()
	}
	var err error
	cfg.Formatter, err = readFormatter(c.Formatter)
	return cfg, err
}

// printEvent writes events to the standard output, a line each.
func printEvent() func(topic string, payload []byte) {
	var mu sync.Mutex
	return func(topic string, payload []byte) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(topic, string(payload))
	}
}

func readFormatter(name string) (messages.Formatter, error) {
	kind := messages.FormatterJavaScript
	switch strings.ToLower(filepath.Ext(name)) {
	case ".js":
	case ".lua":
		kind = messages.FormatterLua
	default:
		switch name {
		case "":
			return messages.Formatter{}, nil
		case "cayennelpp":
			return messages.Formatter{Kind: messages.FormatterCayenneLPP}, nil
		}
		return messages.Formatter{}, fmt.Errorf("formatter %q: name a .lua or .js file, or cayennelpp", name)
	}
	source, err := os.ReadFile(name)
	if err != nil {
		return messages.Formatter{}, fmt.Errorf("formatter: %w", err)
	}
	return messages.Formatter{Kind: kind, Parameter: string(source)}, nil
}
