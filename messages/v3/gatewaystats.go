package v3

import "time"

// GatewayConnectionStats is the connection of a radio gateway since it was established.
type GatewayConnectionStats struct {
	ConnectedAt            *time.Time      `json:"connected_at,omitempty"`
	Protocol               string          `json:"protocol,omitempty"` // e.g. "udp"
	LastStatusReceivedAt   *time.Time      `json:"last_status_received_at,omitempty"`
	LastStatus             *GatewayStatus  `json:"last_status,omitempty"`
	LastUplinkReceivedAt   *time.Time      `json:"last_uplink_received_at,omitempty"`
	UplinkCount            Uint64          `json:"uplink_count,omitempty"`
	LastDownlinkReceivedAt *time.Time      `json:"last_downlink_received_at,omitempty"`
	DownlinkCount          Uint64          `json:"downlink_count,omitempty"`
	RoundTripTimes         *RoundTripTimes `json:"round_trip_times,omitempty"`
}

// GatewayStatus is what a radio gateway says of itself.
type GatewayStatus struct {
	Time             *time.Time         `json:"time,omitempty"`
	Versions         map[string]string  `json:"versions,omitempty"`
	AntennaLocations []Location         `json:"antenna_locations,omitempty"`
	Metrics          map[string]float64 `json:"metrics,omitempty"` // rxin, rxok, rxfw, ackr, txin, txok, temp, …
}

// RoundTripTimes of downlinks, from the request to the answer of the radio gateway.
type RoundTripTimes struct {
	Min    Duration `json:"min,omitempty"`
	Max    Duration `json:"max,omitempty"`
	Median Duration `json:"median,omitempty"`
	Count  Uint32   `json:"count,omitempty"`
}
