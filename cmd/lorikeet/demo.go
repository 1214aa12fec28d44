package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"lorikeet/cmd/lorikeet/simulator"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

//go:embed demo.lua
var demoFormatter string

// demoApplication is the application of the demo.
const demoApplication = "demo"

type demoCommand struct {
	configFlags
	Devices  int           `default:"5" help:"Number of devices."`
	Rate     float64       `default:"1" help:"Uplinks a second, of all devices together."`
	Duration time.Duration `default:"0" help:"Length of the demo; 0: until it is interrupted."`
}

// Run starts a server with a throw-away folder, unless --data names one, lets simulated devices join and prints what an application sees.
func (c *demoCommand) Run(ctx context.Context) error {
	if c.LogLevel == "" {
		c.LogLevel = "error"
	}
	if c.Data == "" {
		dir, err := os.MkdirTemp("", "lorikeet-demo-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		c.Data = dir
	}
	cfg, err := c.load()
	if err != nil {
		return err
	}
	takeFreePorts(&cfg)
	s, err := startServer(ctx, cfg, newLogger(cfg.Log, os.Stderr), os.Stdout)
	if err != nil {
		return err
	}
	s.announce(os.Stdout)
	err = c.play(ctx, s)
	closing, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	return errors.Join(err, s.Close(closing))
}

// takeFreePorts replaces the ports that another program has, so that the demo runs beside a server.
func takeFreePorts(cfg *Config) {
	for _, listen := range []*string{&cfg.HTTP.Listen, &cfg.MQTT.Listen} {
		if l, err := net.Listen("tcp", *listen); err != nil {
			*listen = "127.0.0.1:0"
		} else {
			_ = l.Close()
		}
	}
	if l, err := net.ListenPacket("udp", cfg.UDP.Listen); err != nil {
		cfg.UDP.Listen = "127.0.0.1:0"
	} else {
		_ = l.Close()
	}
}

func (c *demoCommand) play(ctx context.Context, s *server) error {
	admin, err := s.adminKey(ctx)
	if err != nil {
		return err
	}
	sim := simulator.DefaultConfig()
	sim.HTTP, sim.MQTT, sim.UDP, sim.AdminKey = "http://"+local(s.rest.Addr()), "tcp://"+local(s.broker.Addr()), local(s.udp.Addr().String()), admin
	api := simulator.NewClient(sim.HTTP, admin)
	if err := api.CreateApplication(ctx, demoApplication); err != nil {
		return err
	}
	if sim.APIKey, err = api.CreateAPIKey(ctx, demoApplication, "demo"); err != nil {
		return err
	}
	sim.ApplicationID, sim.Formatter = demoApplication, messages.Formatter{Kind: messages.FormatterLua, Parameter: demoFormatter}
	sim.Devices, sim.Rate, sim.Duration, sim.Seed = c.Devices, c.Rate, c.Duration, uint64(time.Now().UnixNano())
	sim.JoinRate = 4 // one radio gateway can't send many join-accepts at a time
	if sim.Duration == 0 {
		sim.Duration = 1000 * time.Hour
	}
	sim.Event = demoPrinter(os.Stdout)
	c.tell(os.Stdout, s, sim)
	report, err := simulator.Run(ctx, sim, io.Discard)
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	fmt.Println()
	if err := report.WriteTable(os.Stdout); err != nil {
		return err
	}
	if problems := report.Problems(); len(problems) > 0 && ctx.Err() == nil {
		return errors.New(strings.Join(problems, "; "))
	}
	return nil
}

// adminKey gives a key for the demo itself: the one that was made or preset, or a new one beside those of an older folder.
func (s *server) adminKey(ctx context.Context) (string, error) {
	switch {
	case s.createdKey != "":
		return s.createdKey, nil
	case s.cfg.AdminKey != "":
		return string(s.cfg.AdminKey), nil
	}
	key, err := s.registry.CreateAPIKey(ctx, "", v3.APIKey{Name: "demo"})
	return key.Key, err
}

// local is an address that programs on this machine can dial.
func local(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

func (c *demoCommand) tell(w io.Writer, s *server, sim simulator.Config) {
	_, mqttPort, _ := net.SplitHostPort(s.broker.Addr())
	login := fmt.Sprintf("-h localhost -p %s -u %s -P %s", mqttPort, demoApplication, sim.APIKey)
	device := simulator.MakeIdentity(sim.Seed, 0, simulator.OTAA).DeviceID
	fmt.Fprintf(w, `
%d simulated devices join application %q. Try in another terminal:

    mosquitto_sub %s -t 'v3/%s/devices/+/up'
    mosquitto_pub %s -t v3/%s/devices/%s/down/push -m '{"downlinks":[{"f_port":10,"decoded_payload":{"led":"on"}}]}'
    curl -H 'Authorization: Bearer %s' '%s/api/v3/applications/%s/devices?field_mask=name,activated_at'

What the application sees (interrupt to end):

`, c.Devices, demoApplication, login, demoApplication, login, demoApplication, device, sim.APIKey, sim.HTTP, demoApplication)
}

// demoPrinter writes a line per event: what a person wants to see of it.
func demoPrinter(w io.Writer) func(topic string, payload []byte) {
	var mu sync.Mutex
	return func(topic string, payload []byte) {
		var up v3.ApplicationUp
		if err := json.Unmarshal(payload, &up); err != nil {
			return // the broker's own requests, down/push, are on the same topics
		}
		_, kind, _ := strings.Cut(strings.TrimPrefix(topic, "v3/"+demoApplication+"/devices/"), "/")
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(w, "%s  %s  %-12s %s\n", time.Now().Format(time.TimeOnly), up.EndDeviceIDs.DeviceID, kind, demoDetail(up))
	}
}

func demoDetail(up v3.ApplicationUp) string {
	down := up.DownlinkQueued
	switch {
	case up.UplinkMessage != nil && up.UplinkMessage.DecodeError != "":
		return "decode error: " + up.UplinkMessage.DecodeError
	case up.UplinkMessage != nil:
		u := up.UplinkMessage
		text := fmt.Sprintf("f_cnt=%d f_port=%d decoded_payload=%s", u.FCnt, u.FPort, u.DecodedPayload)
		if len(u.DecodedPayloadWarnings) > 0 {
			text += " warnings=" + strings.Join(u.DecodedPayloadWarnings, ", ")
		}
		return text
	case up.JoinAccept != nil:
		return "dev_addr=" + up.EndDeviceIDs.DevAddr.String()
	case up.DownlinkSent != nil:
		down = up.DownlinkSent
	case up.DownlinkFailed != nil:
		return up.DownlinkFailed.Error.MessageFormat
	}
	if down == nil {
		return ""
	}
	var compact bytes.Buffer
	if json.Compact(&compact, down.DecodedPayload) != nil {
		compact.Reset()
	}
	return fmt.Sprintf("f_cnt=%d f_port=%d frm_payload=%x %s", down.FCnt, down.FPort, []byte(down.FRMPayload), compact.String())
}
