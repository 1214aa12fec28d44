package messages

import (
	"encoding/json"
	"time"
)

// Priority of a downlink. The zero value is LOWEST, as in The Things Stack.
type Priority uint8

// PriorityNames are the wire names; the index is the value.
var PriorityNames = [...]string{"LOWEST", "LOW", "BELOW_NORMAL", "NORMAL", "ABOVE_NORMAL", "HIGH", "HIGHEST"}

func (p Priority) String() string {
	if int(p) < len(PriorityNames) {
		return PriorityNames[p]
	}
	return PriorityNames[0]
}

// DownlinkStatus says where an item of the queue stands.
type DownlinkStatus string

const (
	DownlinkQueued      DownlinkStatus = "queued"       // waits for an uplink
	DownlinkInFlight    DownlinkStatus = "in_flight"    // with a radio gateway that has not answered
	DownlinkAwaitingAck DownlinkStatus = "awaiting_ack" // sent; the next uplink tells whether the device has it
)

// Downlink is one item of a device's downlink queue.
type Downlink struct {
	ID              string // ULID given by the server when the item is accepted
	FPort           uint8
	FRMPayload      []byte          // in clear, unless Encrypted
	DecodedPayload  json.RawMessage `json:",omitempty"` // object, or nil
	DecodedWarnings []string
	Confirmed       bool
	Priority        Priority
	ClassBC         json.RawMessage `json:",omitempty"` // class_b_c of The Things Stack, stored as given
	CorrelationIDs  []string
	MaxAttempts     uint32 // of a confirmed item; 0 = the server's default
	Attempt         uint32 // 1 once it was sent first; set by the server
	// FCnt and SessionKeyID are of the transmission once there is one; in a list and in downlink_queued they say what is expected.
	// Of an Encrypted item they say what it was encrypted for.
	FCnt         uint32
	SessionKeyID []byte
	Encrypted    bool `json:",omitempty"` // by the application, since the device's payload crypto is skipped; set by the server

	TimeToLive   time.Duration `json:",omitempty"` // from the acceptance on; the server makes it into ExpiresAt
	ExpiresAt    time.Time     `json:",omitzero"`  // when the item leaves the queue unsent; zero: never
	AbsoluteTime time.Time     `json:",omitzero"`  // of ClassBC: when it is to be sent

	Status DownlinkStatus `json:",omitempty"` // in a list
}
