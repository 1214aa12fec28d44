package actors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"lorikeet/actors/device"
	"lorikeet/messages"
	"lorikeet/messages/keywrap"
	v3 "lorikeet/messages/v3"
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
	Network     v3.NetworkIDs // what messages say of the network, beside the NetID
	Activations Activations

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

	movingUntil time.Time // the device gets another id: nothing is done until then

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
	done       []carriedOut // the last changes of the queue

	expiry    *time.Timer // of the next item of the queue that expires; nil: none does
	expiresAt time.Time
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
	if d.cfg.Clock().Before(d.movingUntil) {
		return errMoving(d.id)
	}
	if d.profile != nil && d.loaded {
		return nil
	}
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
	d.watchExpiry()
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
	profile.SkipCrypto = skipsPayloadCrypto(dev, link)
	kek, err := d.readActivation(ctx, dev, profile)
	if err != nil {
		return err
	}
	d.profile, d.view, d.decoder = profile, newEventView(dev, profile, d.cfg.Network, kek), upFormatter(dev, link)
	return nil
}

func refusalName(err error) string {
	var e *messages.Error
	if errors.As(err, &e) {
		return e.Name
	}
	return "internal"
}

// readActivation takes over the NetID of the application's home network, and gives what wraps the AppSKey in events. If the label of that is not known
// any more, events go out without the key.
func (d *Device) readActivation(ctx context.Context, dev v3.EndDevice, profile *device.Profile) (*keywrap.KEK, error) {
	settings, err := d.cfg.Activations.ActivationSettings(ctx, d.id.ApplicationID)
	if err != nil {
		return nil, err
	}
	if dev.NetID == "" && settings.HomeNetID != "" {
		if profile.NetID, err = parseNetID(settings.HomeNetID); err != nil {
			return nil, messages.Errorf(messages.CodePrecondition, "device_settings", "home_net_id of application %s: %w", d.id.ApplicationID, err)
		}
	}
	kek, err := d.cfg.Activations.WrappingKEK(ctx, dev)
	if messages.CodeOf(err) == messages.CodePrecondition && err != nil {
		d.log.Warn("the AppSKey can't be wrapped, so that events go out without it", "err", err)
		return nil, nil
	}
	return kek, err
}
