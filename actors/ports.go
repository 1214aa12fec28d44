package actors

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"lorikeet/actors/device"
	"lorikeet/messages"
	"lorikeet/messages/keywrap"
	v3 "lorikeet/messages/v3"
)

// SessionStore keeps session records and events.
type SessionStore interface {
	// LoadSession gives nil and revision 0 if there is no record.
	LoadSession(ctx context.Context, id messages.DeviceID) ([]byte, messages.Revision, error)
	// Commit returns after record and events are durable. messages.ErrConflict means that another activation owns the device.
	Commit(ctx context.Context, c messages.Commit) (messages.Revision, error)
	DeleteSession(ctx context.Context, id messages.DeviceID) error
	ScanSessions(ctx context.Context, fn func(messages.DeviceID, []byte, messages.Revision) error) error
}

// Registry knows what the API said about devices.
type Registry interface {
	Device(ctx context.Context, id messages.DeviceID) (v3.EndDevice, error)
	Link(ctx context.Context, applicationID string) (v3.Link, error)
	DeviceByEUI(joinEUI, devEUI messages.EUI64) (messages.DeviceID, bool)
}

// Formatters run payload formatters. They bound time, memory and output by themselves.
type Formatters interface {
	DecodeUplink(ctx context.Context, f messages.Formatter, in messages.DecodeInput) (messages.Decoded, error)
	EncodeDownlink(ctx context.Context, f messages.Formatter, in messages.EncodeInput) (messages.Encoded, error)
	DecodeDownlink(ctx context.Context, f messages.Formatter, in messages.DecodeInput) (messages.Decoded, error)
}

// Activations knows what applications say of the activation of their devices.
type Activations interface {
	ActivationSettings(ctx context.Context, applicationID string) (v3.ActivationSettings, error)
	// WrappingKEK gives the KEK that wraps the AppSKey of a device: the one that the device names, or its application. nil if none is named,
	// messages.CodePrecondition if it is not known.
	WrappingKEK(ctx context.Context, dev v3.EndDevice) (*keywrap.KEK, error)
}

// Index is told which sessions a device has.
type Index interface {
	// Prepare makes sessions findable, durably, before they are committed: a device must not be lost because a process ended in between.
	// That a prepared session is never committed does no harm.
	Prepare(ctx context.Context, id messages.DeviceID, sessions ...messages.SessionEntry) error
	// Set says which sessions there are, after they are durable.
	Set(id messages.DeviceID, sessions ...messages.SessionEntry)
	Has(id messages.DeviceID) bool
}

// Router reaches device actors, wherever they live.
type Router interface {
	Tell(id messages.DeviceID, message any)
	// TellAwake reaches only actors that are awake; deviceID "" means all of the application.
	TellAwake(applicationID, deviceID string, message any)
	Ask(ctx context.Context, id messages.DeviceID, command any) (any, error)
	// Owns says whether the actor of the device is to live on this node.
	Owns(id messages.DeviceID) bool
	// Retire stops an actor that asks for it itself. What is sent to its device meanwhile is kept for the next one.
	Retire(id messages.DeviceID, pid *actor.PID)
}

// Asked is a message whose sender waits. Answer must be called exactly once.
type Asked interface {
	Asked() any
	Answer(value any, err error)
}

// Sender sends class A answers. Transmit returns at once; report is called once with what became of it, unless the answer is a join-accept.
type Sender interface {
	Transmit(t *device.Transmit, report func(result messages.TxError, missed bool))
}

// Random makes what the cores must not: everything that can't be foreseen.
type Random interface {
	ULID(now time.Time) string
	Bytes(n int) []byte
}
