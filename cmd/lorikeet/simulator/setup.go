package simulator

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// lineWriter lets several goroutines write, until it is closed.
type lineWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lineWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func (l *lineWriter) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.w = io.Discard
}

// provision registers application, formatter and devices, and gives the API key for MQTT.
func (r *run) provision(ctx context.Context, ids []Identity) (apiKey string, cleanUp func(), err error) {
	cfg := r.cfg
	cleanUp = func() {}
	if cfg.HTTP == "" {
		return cfg.APIKey, cleanUp, nil
	}
	c := NewClient(cfg.HTTP, cfg.AdminKey)
	if err := c.CreateApplication(ctx, cfg.ApplicationID); err != nil {
		return "", cleanUp, err
	}
	if cfg.Formatter.Kind != "" {
		if err := c.SetFormatter(ctx, cfg.ApplicationID, cfg.Formatter); err != nil {
			return "", cleanUp, err
		}
	}
	if r.hook != nil {
		if err := c.SetWebhook(ctx, cfg.ApplicationID, r.hook.id, r.hook.url); err != nil {
			return "", cleanUp, err
		}
		cleanUp = later(ctx, c, "/as/webhooks/"+cfg.ApplicationID+"/"+r.hook.id, cleanUp)
	}
	existed, err := c.CreateDevices(ctx, cfg.ApplicationID, ids, cfg.Region, cfg.SubBand)
	if err != nil {
		return "", cleanUp, err
	}
	fmt.Fprintf(r.out, "%d devices registered, %d were there already\n", len(ids)-existed, existed)
	if cfg.APIKey != "" || cfg.MQTT == "" {
		return cfg.APIKey, cleanUp, nil
	}
	key, err := c.CreateAPIKey(ctx, cfg.ApplicationID, "simulator")
	if parts := strings.Split(key, "."); err == nil && len(parts) == 3 { // NNSXS.<id>.<secret>
		cleanUp = later(ctx, c, "/applications/"+cfg.ApplicationID+"/api-keys/"+parts[1], cleanUp)
	}
	return key, cleanUp, err
}

// later gives a function that deletes what is at path, also after ctx has ended, and then calls next. What stays is only untidy.
func later(ctx context.Context, c *Client, path string, next func()) func() {
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = c.Do(ctx, "DELETE", path, nil, nil)
		next()
	}
}

// open starts radio gateways and devices.
func (r *run) open(ctx context.Context, ids []Identity, states map[string]State) error {
	cfg := r.cfg
	servers := strings.Split(cfg.UDP, ",")
	for i := range cfg.Gateways {
		first := i % len(servers)
		others := append(slices.Clone(servers[first+1:]), servers[:first]...)
		g, err := r.air.OpenGateway(ctx, GatewayConfig{EUI: gatewayEUI(cfg.Seed, i), Server: servers[first], Others: others, Forget: cfg.Forget, KeepAlive: cfg.KeepAlive, Stat: cfg.Stat, GPS: cfg.GPS,
			Lead: cfg.Lead, OneTransmitter: cfg.OneTransmitter, Seed: cfg.Seed})
		if err != nil {
			return err
		}
		r.gateways = append(r.gateways, g)
	}
	connect, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, g := range r.gateways {
		if err := g.WaitConnected(connect); err != nil {
			return err
		}
	}
	// The windows of the uplinks of the last 8 s stay open, for the load may be more than class A allows a device.
	windows := min(1+int(8*cfg.Rate/float64(cfg.Devices)), 64)
	for i, id := range ids {
		heardBy := make([]*Gateway, cfg.Copies)
		for k := range heardBy {
			heardBy[k] = r.gateways[(i+k)%len(r.gateways)]
		}
		d, err := r.air.AddDevice(MACConfig{DevEUI: id.DevEUI, JoinEUI: id.JoinEUI, AppKey: id.AppKey, ABP: id.ABP, Region: cfg.Region, SubBand: cfg.SubBand,
			DataRate: cfg.DataRate, ADR: cfg.ADR, Windows: windows, Seed: cfg.Seed + uint64(i), State: states[id.DeviceID]}, heardBy...)
		if err != nil {
			return fmt.Errorf("device %s: %w", id.DeviceID, err)
		}
		p := &player{Device: d, id: id}
		p.joined.Store(cfg.Activation == ABP)
		r.players = append(r.players, p)
		r.mu.Lock() // radio gateways are running
		r.byDevice[d] = p
		r.mu.Unlock()
	}
	return nil
}
