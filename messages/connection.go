package messages

import "time"

// States of a connection.
const (
	ConnectionConnected  = "connected"
	ConnectionConnecting = "connecting" // not there, and tried again for ever
)

// ConnectionState says how an integration's connection to another system is doing. An integration that keeps a connection has a method
// Connection() ConnectionState.
type ConnectionState struct {
	State       string     `json:"state"`
	Since       time.Time  `json:"since"`                   // of State
	Connects    uint64     `json:"connects"`                // connections that came about since the integration runs
	LastError   string     `json:"last_error,omitempty"`    // of the last connection or try; without secrets
	LastErrorAt *time.Time `json:"last_error_at,omitempty"` // of LastError
}
