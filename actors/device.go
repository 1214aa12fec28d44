package actors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"lorikeet/actors/device"
	"lorikeet/messages"
)

// DeviceConfig is what all device actors share.
type DeviceConfig struct {
	Store       SessionStore
	Registry    Registry
	Formatters  Formatters
	Index       Index
	Router      func() Router // the router starts after the actors are configured
	Transmitter Sender
	Random      Random
	Regions     *Regions
	NetID       [3]byte

	DeduplicationWindow time.Duration // how long copies of a frame are collected at most
	CommitTimeout       time.Duration
	Clock               func() time.Time
	Log                 *slog.Logger
	Metrics             *Metrics
}

// Device is the actor of one device. It owns the session record: it alone writes it, and only through Decide and a commit.
type Device struct {
	cfg *DeviceConfig
	id  messages.DeviceID
	log *slog.Logger

	self  func(message any) // sends to this very actor
	moved bool              // the device belongs to another node: whatever still comes is sent on

	state    device.State
	revision messages.Revision
	loaded   bool

	profile *device.Profile // nil: not read yet, or changed
	view    *eventView
	decoder messages.Formatter

	collecting []*collection
	decided    *collection // the newest that was closed
	late       []messages.EUI64
	nextWindow uint64
	pushed     []string // the last requests for downlinks that were carried out
}

// NewDevice makes the actor. Its state is read with the first message.
func NewDevice(cfg *DeviceConfig, id messages.DeviceID) *Device {
	return &Device{cfg: cfg, id: id, log: cfg.Log.With("component", "device", "application_id", id.ApplicationID, "device_id", id.DeviceID)}
}

func (d *Device) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d.cfg.CommitTimeout)
}

// ready reads what is not in memory.
func (d *Device) ready() error {
	ctx, cancel := d.context()
	defer cancel()
	if d.profile == nil {
		if err := d.readProfile(ctx); err != nil {
			return err
		}
	}
	if d.loaded {
		return nil
	}
	b, rev, err := d.cfg.Store.LoadSession(ctx, d.id)
	if err != nil {
		return fmt.Errorf("read session of %s: %w", d.id, err)
	}
	if d.state, err = device.Unmarshal(b); err != nil {
		return fmt.Errorf("read session of %s: %w", d.id, err)
	}
	d.revision, d.loaded = rev, true
	return nil
}

func (d *Device) readProfile(ctx context.Context) error {
	dev, err := d.cfg.Registry.Device(ctx, d.id)
	if err != nil {
		return err
	}
	link, err := d.cfg.Registry.Link(ctx, d.id.ApplicationID)
	if err != nil {
		return err
	}
	profile, err := profileOf(dev, d.cfg.Regions, d.cfg.NetID)
	if err != nil {
		return messages.Errorf(messages.CodePrecondition, "device_settings", "device %s: %w", d.id, err)
	}
	d.profile, d.view, d.decoder = profile, newEventView(dev, profile, d.cfg.NetID), upFormatter(dev, link)
	return nil
}

func refusalName(err error) string {
	var e *messages.Error
	if errors.As(err, &e) {
		return e.Name
	}
	return "internal"
}
