package messages

import "time"

// States of a Connection.
const (
	ConnectionConnected  = "connected"
	ConnectionConnecting = "connecting" // not there, and tried again for ever
)

// Connection says how an integration's connection to another system is doing.
type Connection struct {
	State       string     `json:"state"`
	Since       time.Time  `json:"since"`                   // of State
	Connects    uint64     `json:"connects,omitempty"`      // connections that came about since the integration runs
	LastError   string     `json:"last_error,omitempty"`    // of the last connection or try; without secrets
	LastErrorAt *time.Time `json:"last_error_at,omitempty"` // of LastError
}
