package messages

import "time"

// Revision counts the writes of one record. 0 means that there is no record yet.
type Revision uint64

// EventType is the TTS name of the one body that an ApplicationUp carries, e.g. "uplink_message".
type EventType string

const (
	EventUplink           EventType = "uplink_message"
	EventUplinkNormalized EventType = "uplink_normalized"
	EventJoin             EventType = "join_accept"
	EventDownQueued       EventType = "downlink_queued"
	EventDownSent         EventType = "downlink_sent"
	EventDownAck          EventType = "downlink_ack"
	EventDownNack         EventType = "downlink_nack"
	EventDownFailed       EventType = "downlink_failed"
	EventDownInvalidated  EventType = "downlink_queue_invalidated"
	EventLocationSolved   EventType = "location_solved"
	EventServiceData      EventType = "service_data"
)

// EventTypes lists all event types, in the order of The Things Stack's documentation.
var EventTypes = [...]EventType{
	EventUplink, EventUplinkNormalized, EventJoin, EventDownAck, EventDownNack, EventDownSent, EventDownFailed,
	EventDownQueued, EventDownInvalidated, EventLocationSolved, EventServiceData,
}

// Event is what applications see, encoded once. It is immutable: every integration shares JSON.
type Event struct {
	ID      string // deterministic (device, session, counter, type), so that a consumer can drop repeats
	Device  DeviceID
	DevEUI  EUI64   // zero if the device has none
	JoinEUI EUI64   // zero if the device has none
	DevAddr DevAddr // zero if there is no session
	Type    EventType
	Time    time.Time // outer received_at
	JSON    []byte    // the whole ApplicationUp of The Things Stack v3
}

// LogEntry is an event at its place in the log of its application. Seq starts at 1 and has no gaps.
type LogEntry struct {
	Seq uint64
	Event
}

// Commit is one durable step of one device: its next session record and the events that follow from it, all or nothing.
type Commit struct {
	Device   DeviceID
	Expected Revision // the revision the step was decided on
	Session  []byte   // nil leaves the record (and its revision) as it is; then Expected is not checked
	Events   []Event  // appended to the log of Device.ApplicationID, in order
}

// Kind is a family of registry documents.
type Kind string

const (
	KindApplication  Kind = "app"
	KindDevice       Kind = "dev"        // id application.device
	KindDeviceEUI    Kind = "eui"        // id JoinEUI.DevEUI in hex; value is the UID of the device. Keeps the pair unique
	KindLink         Kind = "link"       // id application
	KindActivation   Kind = "activation" // id application: how the keys of its devices are wrapped
	KindWebhook      Kind = "webhook"    // id application.webhook
	KindPubSub       Kind = "pubsub"     // id application.pubsub
	KindAPIKey       Kind = "key"        // id of the key
	KindRadioGateway Kind = "gtw"        // id of the radio gateway
	KindGatewayEUI   Kind = "gtweui"     // id EUI in hex; value is the id of the radio gateway
	KindMQTTSession  Kind = "mqtt"       // id application.session: a session of the embedded MQTT broker that outlives its connection
	KindServer       Kind = "server"     // what the server keeps for itself
	KindDeadLetter   Kind = "dead"       // id application.kind.integration.letter; an event that an integration has given up
	KindDelivery     Kind = "delivery"   // id application.kind.integration; what an integration has delivered, and what failed last
)

// Kinds lists all kinds.
var Kinds = [...]Kind{
	KindApplication, KindDevice, KindDeviceEUI, KindLink, KindActivation, KindWebhook, KindPubSub, KindAPIKey, KindRadioGateway, KindGatewayEUI,
	KindMQTTSession, KindServer, KindDeadLetter, KindDelivery,
}

// Document is one registry record. Value is opaque to the store, which seals it at rest.
type Document struct {
	Kind     Kind
	ID       string
	Revision Revision // as read
	Value    []byte
}

// Write is one part of an atomic change of the registry.
type Write struct {
	Kind   Kind
	ID     string
	Value  []byte // nil deletes the document (no error if there is none, unless Expect is set)
	Expect bool   // if set, the document must be at Revision now (0: must not exist), else nothing of the change is done: ErrConflict
	Revision
}
