package rest

import (
	"context"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// Registry keeps what people configure. Its writes are durable when they return, its refusals are messages.Error. A change function may run more
// than once.
type Registry interface {
	Keys
	Applications
	EndDevices
	Integrations
	RadioGateways
	Claims
	Activations
}

// Keys is the part of the Registry about API keys. Application "" means the admin keys of the server.
type Keys interface {
	Authorize(ctx context.Context, key string) (messages.Access, error)
	APIKeys(ctx context.Context, app string) ([]v3.APIKey, error)
	APIKey(ctx context.Context, app, id string) (v3.APIKey, error)
	CreateAPIKey(ctx context.Context, app string, key v3.APIKey) (v3.APIKey, error)
	UpdateAPIKey(ctx context.Context, app, id string, change func(*v3.APIKey) error) (v3.APIKey, error)
	DeleteAPIKey(ctx context.Context, app, id string) error
}

// Applications is the part of the Registry about applications and their links.
type Applications interface {
	Applications(ctx context.Context) ([]v3.Application, error)
	Application(ctx context.Context, id string) (v3.Application, error)
	ApplicationExists(id string) bool
	CreateApplication(ctx context.Context, app v3.Application) (v3.Application, error)
	UpdateApplication(ctx context.Context, id string, change func(*v3.Application) error) (v3.Application, error)
	DeleteApplication(ctx context.Context, id string) error
	Link(ctx context.Context, app string) (v3.Link, error)
	SetLink(ctx context.Context, app string, change func(*v3.Link) error) (v3.Link, error)
	DeleteLink(ctx context.Context, app string) error
}

// EndDevices is the part of the Registry about devices. It keeps no sessions and no nonces.
type EndDevices interface {
	Device(ctx context.Context, id messages.DeviceID) (v3.EndDevice, error)
	Devices(ctx context.Context, applicationID string) ([]v3.EndDevice, error)
	// DevicePage gives up to limit devices after the first skip, sorted by id, and how many there are.
	DevicePage(ctx context.Context, applicationID string, skip, limit int) (page []v3.EndDevice, total int, err error)
	CreateDevice(ctx context.Context, device v3.EndDevice) (v3.EndDevice, error)
	UpdateDevice(ctx context.Context, id messages.DeviceID, change func(*v3.EndDevice) error) (v3.EndDevice, error)
	DeleteDevice(ctx context.Context, id messages.DeviceID) error
}

// Integrations is the part of the Registry about webhooks and pub/sub.
type Integrations interface {
	Webhooks(ctx context.Context, app string) ([]v3.Webhook, error)
	Webhook(ctx context.Context, app, id string) (v3.Webhook, error)
	SetWebhook(ctx context.Context, app, id string, change func(*v3.Webhook) error) (v3.Webhook, error)
	DeleteWebhook(ctx context.Context, app, id string) error
	PubSubs(ctx context.Context, app string) ([]v3.PubSub, error)
	PubSub(ctx context.Context, app, id string) (v3.PubSub, error)
	SetPubSub(ctx context.Context, app, id string, change func(*v3.PubSub) error) (v3.PubSub, error)
	DeletePubSub(ctx context.Context, app, id string) error
}

// RadioGateways is the part of the Registry about radio gateways.
type RadioGateways interface {
	Gateways(ctx context.Context) ([]v3.Gateway, error)
	Gateway(ctx context.Context, id string) (v3.Gateway, error)
	CreateGateway(ctx context.Context, gateway v3.Gateway) (v3.Gateway, error)
	UpdateGateway(ctx context.Context, id string, change func(*v3.Gateway) error) (v3.Gateway, error)
	DeleteGateway(ctx context.Context, id string) error
}

// Devices reaches the device actors. A nil error means that the effect is durable.
type Devices interface {
	DeviceMover
	DownlinkQueue
	PushDownlinks(ctx context.Context, id messages.DeviceID, items []messages.Downlink) error
	ReplaceDownlinks(ctx context.Context, id messages.DeviceID, items []messages.Downlink) error
	// DeviceState gives the sessions with keys, nonces and times. A device whose settings are not complete has none: messages.CodePrecondition.
	DeviceState(ctx context.Context, id messages.DeviceID) (v3.EndDevice, error)
	// SetDeviceSession sets a session or a part of it: missing keys keep what there is, as long as the address and the given keys are the same.
	SetDeviceSession(ctx context.Context, id messages.DeviceID, s v3.Session) error
	// ResetDevice forgets the sessions of a device that joins, and the queue; nonces stay.
	ResetDevice(ctx context.Context, id messages.DeviceID) error
	// DeleteDevice drops the whole session record, also that of a device that is not in the registry.
	DeleteDevice(ctx context.Context, id messages.DeviceID) error
	SimulateUplink(ctx context.Context, id messages.DeviceID, up v3.ApplicationUp) error
}

// Formatters run payload formatters; they bound time and memory by themselves.
type Formatters interface {
	DecodeUplink(ctx context.Context, f messages.Formatter, in messages.DecodeInput) (messages.Decoded, error)
	EncodeDownlink(ctx context.Context, f messages.Formatter, in messages.EncodeInput) (messages.Encoded, error)
	DecodeDownlink(ctx context.Context, f messages.Formatter, in messages.DecodeInput) (messages.Decoded, error)
}
