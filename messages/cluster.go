package messages

import "time"

// ClusterStatus is what one node knows of its cluster.
type ClusterStatus struct {
	Mode      string          `json:"mode"` // "single" or "cluster"
	Node      string          `json:"node"` // the one that answers
	Store     string          `json:"store"`
	Suspended string          `json:"suspended,omitempty"` // why the node takes no work now
	Members   []ClusterMember `json:"members"`
}

// ClusterMember is one node.
type ClusterMember struct {
	Name      string     `json:"name"`
	Address   string     `json:"address,omitempty"`
	Version   string     `json:"version"`
	State     string     `json:"state"` // joining, alive, leaving or removed
	Since     time.Time  `json:"since"`
	LeaseAge  float64    `json:"lease_age_seconds"` // since its lease was last renewed
	Shards    int        `json:"shards"`            // of all devices, the part that it owns
	Figures   *NodeStats `json:"figures,omitempty"` // nil if it did not answer
	LastError string     `json:"last_error,omitempty"`
}

// NodeStats are figures of one node at one moment.
type NodeStats struct {
	DevicesAwake   int   `json:"devices_awake"`
	DevicesKnown   int   `json:"devices_with_session"` // in its directory
	FramesInFlight int64 `json:"frames_in_flight"`
	RadioGateways  int   `json:"radio_gateways"` // whose downlinks go through it
	Integrations   int   `json:"integrations"`   // that it runs

	IntegrationLags []IntegrationLag `json:"integration_lags,omitempty"` // of those that are furthest behind, the furthest first
}

// IntegrationLag says how far an integration is behind the log.
type IntegrationLag struct {
	Kind          string  `json:"kind"` // webhook or pubsub
	ApplicationID string  `json:"application_id"`
	ID            string  `json:"id"`
	State         string  `json:"state"` // see DeliveryStatus
	Lag           uint64  `json:"lag"`   // entries of the log that are not settled, by estimate if they are many
	OldestAge     float64 `json:"oldest_age_seconds"`
}
