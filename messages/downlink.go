package messages

import "encoding/json"

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

// Downlink is one item of a device's downlink queue.
type Downlink struct {
	ID              string // ULID given by the server when the item is accepted
	FPort           uint8
	FRMPayload      []byte          // in clear
	DecodedPayload  json.RawMessage `json:",omitempty"` // object, or nil
	DecodedWarnings []string
	Confirmed       bool
	Priority        Priority
	ClassBC         json.RawMessage `json:",omitempty"` // class_b_c of The Things Stack, stored as given
	CorrelationIDs  []string
	MaxAttempts     uint32 // of a confirmed item; 0 = the server's default
	Attempt         uint32 // 1 once it was sent first; set by the server
	// FCnt and SessionKeyID are of the transmission once there is one; in a list and in downlink_queued they say what is expected.
	FCnt         uint32
	SessionKeyID []byte
}
