package v3

import (
	"encoding/json"
	"time"

	"lorikeet/messages"
)

// ApplicationIDs names an application.
type ApplicationIDs struct {
	ApplicationID string `json:"application_id,omitempty"`
}

// EndDeviceIDs names a device.
type EndDeviceIDs struct {
	DeviceID       string            `json:"device_id,omitempty"`
	ApplicationIDs ApplicationIDs    `json:"application_ids,omitzero"`
	DevEUI         *messages.EUI64   `json:"dev_eui,omitempty"`
	JoinEUI        *messages.EUI64   `json:"join_eui,omitempty"`
	DevAddr        *messages.DevAddr `json:"dev_addr,omitempty"`
}

// ApplicationUp is every message to an application: the envelope and exactly one body.
type ApplicationUp struct {
	EndDeviceIDs   EndDeviceIDs `json:"end_device_ids"`
	CorrelationIDs []string     `json:"correlation_ids,omitempty"`
	ReceivedAt     *time.Time   `json:"received_at,omitempty"`

	UplinkMessage            *UplinkMessage            `json:"uplink_message,omitempty"`
	UplinkNormalized         *UplinkNormalized         `json:"uplink_normalized,omitempty"`
	JoinAccept               *JoinAccept               `json:"join_accept,omitempty"`
	DownlinkAck              *ApplicationDownlink      `json:"downlink_ack,omitempty"`
	DownlinkNack             *ApplicationDownlink      `json:"downlink_nack,omitempty"`
	DownlinkSent             *ApplicationDownlink      `json:"downlink_sent,omitempty"`
	DownlinkFailed           *DownlinkFailed           `json:"downlink_failed,omitempty"`
	DownlinkQueued           *ApplicationDownlink      `json:"downlink_queued,omitempty"`
	DownlinkQueueInvalidated *DownlinkQueueInvalidated `json:"downlink_queue_invalidated,omitempty"`
	LocationSolved           *LocationSolved           `json:"location_solved,omitempty"`
	ServiceData              *ServiceData              `json:"service_data,omitempty"`

	Simulated bool `json:"simulated,omitempty"`
}

// Type names the body that is set, "" if none or several are.
func (u *ApplicationUp) Type() (t messages.EventType) {
	n := 0
	for _, body := range [...]struct {
		of  messages.EventType
		set bool
	}{
		{messages.EventUplink, u.UplinkMessage != nil}, {messages.EventUplinkNormalized, u.UplinkNormalized != nil}, {messages.EventJoin, u.JoinAccept != nil},
		{messages.EventDownAck, u.DownlinkAck != nil}, {messages.EventDownNack, u.DownlinkNack != nil}, {messages.EventDownSent, u.DownlinkSent != nil},
		{messages.EventDownFailed, u.DownlinkFailed != nil}, {messages.EventDownQueued, u.DownlinkQueued != nil},
		{messages.EventDownInvalidated, u.DownlinkQueueInvalidated != nil}, {messages.EventLocationSolved, u.LocationSolved != nil},
		{messages.EventServiceData, u.ServiceData != nil},
	} {
		if body.set {
			t = body.of
			n++
		}
	}
	if n != 1 {
		return ""
	}
	return t
}

// UplinkMessage is a data uplink.
type UplinkMessage struct {
	SessionKeyID              Bytes               `json:"session_key_id,omitempty"`
	FPort                     Uint32              `json:"f_port,omitempty"`
	FCnt                      Uint32              `json:"f_cnt,omitempty"`
	FRMPayload                Bytes               `json:"frm_payload,omitempty"`
	DecodedPayload            json.RawMessage     `json:"decoded_payload,omitempty"`
	DecodedPayloadWarnings    []string            `json:"decoded_payload_warnings,omitempty"`
	DecodeError               string              `json:"decode_error,omitempty"` // additive: why decoded_payload is missing
	NormalizedPayload         []json.RawMessage   `json:"normalized_payload,omitempty"`
	NormalizedPayloadWarnings []string            `json:"normalized_payload_warnings,omitempty"`
	RxMetadata                []RxMetadata        `json:"rx_metadata,omitempty"`
	Settings                  *TxSettings         `json:"settings,omitempty"`
	ReceivedAt                *time.Time          `json:"received_at,omitempty"`
	AppSKey                   *KeyEnvelope        `json:"app_s_key,omitempty"`         // wrapped; only if payload crypto is skipped
	LastAFCntDown             Uint32              `json:"last_a_f_cnt_down,omitempty"` // likewise: the highest FCntDown that is spent or queued
	Confirmed                 bool                `json:"confirmed,omitempty"`
	ConsumedAirtime           Duration            `json:"consumed_airtime,omitempty"`
	PacketErrorRate           float32             `json:"packet_error_rate,omitempty"`
	Locations                 map[string]Location `json:"locations,omitempty"`
	VersionIDs                *VersionIDs         `json:"version_ids,omitempty"`
	NetworkIDs                *NetworkIDs         `json:"network_ids,omitempty"`
	LastBatteryPercentage     *BatteryPercentage  `json:"last_battery_percentage,omitempty"`
	Attributes                map[string]string   `json:"attributes,omitempty"`
}

// UplinkNormalized is one measurement of a data uplink.
type UplinkNormalized struct {
	SessionKeyID              Bytes               `json:"session_key_id,omitempty"`
	FPort                     Uint32              `json:"f_port,omitempty"`
	FCnt                      Uint32              `json:"f_cnt,omitempty"`
	FRMPayload                Bytes               `json:"frm_payload,omitempty"`
	NormalizedPayload         json.RawMessage     `json:"normalized_payload,omitempty"`
	NormalizedPayloadWarnings []string            `json:"normalized_payload_warnings,omitempty"`
	RxMetadata                []RxMetadata        `json:"rx_metadata,omitempty"`
	Settings                  *TxSettings         `json:"settings,omitempty"`
	ReceivedAt                *time.Time          `json:"received_at,omitempty"`
	Confirmed                 bool                `json:"confirmed,omitempty"`
	ConsumedAirtime           Duration            `json:"consumed_airtime,omitempty"`
	Locations                 map[string]Location `json:"locations,omitempty"`
	VersionIDs                *VersionIDs         `json:"version_ids,omitempty"`
	NetworkIDs                *NetworkIDs         `json:"network_ids,omitempty"`
	Attributes                map[string]string   `json:"attributes,omitempty"`
}

// JoinAccept says that a device was activated.
type JoinAccept struct {
	SessionKeyID         Bytes                 `json:"session_key_id,omitempty"`
	AppSKey              *KeyEnvelope          `json:"app_s_key,omitempty"`             // wrapped; only if payload crypto is skipped
	InvalidatedDownlinks []ApplicationDownlink `json:"invalidated_downlinks,omitempty"` // likewise: encrypt and push them again
	PendingSession       bool                  `json:"pending_session,omitempty"`       // of an answer to a rejoin-request; in simulated messages only
	ReceivedAt           *time.Time            `json:"received_at,omitempty"`
	Locations            map[string]Location   `json:"locations,omitempty"`
	VersionIDs           *VersionIDs           `json:"version_ids,omitempty"`
	NetworkIDs           *NetworkIDs           `json:"network_ids,omitempty"`
	Attributes           map[string]string     `json:"attributes,omitempty"`
}

// DownlinkFailed is a downlink that will not be sent (again), and why.
type DownlinkFailed struct {
	Downlink   ApplicationDownlink `json:"downlink"`
	Error      *ErrorDetails       `json:"error,omitempty"`
	Locations  map[string]Location `json:"locations,omitempty"`
	VersionIDs *VersionIDs         `json:"version_ids,omitempty"`
	NetworkIDs *NetworkIDs         `json:"network_ids,omitempty"`
	Attributes map[string]string   `json:"attributes,omitempty"`
}

// DownlinkQueueInvalidated lists the items that lost their counters: the application is to encrypt them again, from last_f_cnt_down + 1 on.
type DownlinkQueueInvalidated struct {
	Downlinks    []ApplicationDownlink `json:"downlinks,omitempty"`
	LastFCntDown Uint32                `json:"last_f_cnt_down,omitempty"`
	SessionKeyID Bytes                 `json:"session_key_id,omitempty"`
	Locations    map[string]Location   `json:"locations,omitempty"`
	VersionIDs   *VersionIDs           `json:"version_ids,omitempty"`
	NetworkIDs   *NetworkIDs           `json:"network_ids,omitempty"`
	Attributes   map[string]string     `json:"attributes,omitempty"`
}

// LocationSolved is a location found by a service.
type LocationSolved struct {
	Service    string            `json:"service,omitempty"`
	Location   *Location         `json:"location,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

// ServiceData is free data of a service.
type ServiceData struct {
	Service    string              `json:"service,omitempty"`
	Data       json.RawMessage     `json:"data,omitempty"`
	Locations  map[string]Location `json:"locations,omitempty"`
	VersionIDs *VersionIDs         `json:"version_ids,omitempty"`
	NetworkIDs *NetworkIDs         `json:"network_ids,omitempty"`
	Attributes map[string]string   `json:"attributes,omitempty"`
}

// ErrorDetails is an error as The Things Stack describes it.
type ErrorDetails struct {
	Namespace     string         `json:"namespace,omitempty"`
	Name          string         `json:"name,omitempty"`
	MessageFormat string         `json:"message_format,omitempty"`
	Attributes    map[string]any `json:"attributes,omitempty"`
	CorrelationID string         `json:"correlation_id,omitempty"`
	Cause         *ErrorDetails  `json:"cause,omitempty"`
	Code          Uint32         `json:"code,omitempty"`
}

// GatewayIDs names a radio gateway.
type GatewayIDs struct {
	GatewayID string          `json:"gateway_id,omitempty"`
	EUI       *messages.EUI64 `json:"eui,omitempty"`
}

// RxMetadata is one reception of an uplink.
type RxMetadata struct {
	GatewayIDs                  GatewayIDs      `json:"gateway_ids"`
	PacketBroker                json.RawMessage `json:"packet_broker,omitempty"` // in simulated messages only, as are relay, downlink_path_constraint and advanced
	Relay                       json.RawMessage `json:"relay,omitempty"`
	AntennaIndex                Uint32          `json:"antenna_index,omitempty"`
	Time                        *time.Time      `json:"time,omitempty"`
	Timestamp                   Uint32          `json:"timestamp,omitempty"`
	FineTimestamp               Uint64          `json:"fine_timestamp,omitempty"`
	EncryptedFineTimestamp      Bytes           `json:"encrypted_fine_timestamp,omitempty"`
	EncryptedFineTimestampKeyID string          `json:"encrypted_fine_timestamp_key_id,omitempty"`
	RSSI                        float32         `json:"rssi,omitempty"`
	SignalRSSI                  *float32        `json:"signal_rssi,omitempty"`
	ChannelRSSI                 float32         `json:"channel_rssi,omitempty"`
	RSSIStandardDeviation       float32         `json:"rssi_standard_deviation,omitempty"`
	SNR                         float32         `json:"snr,omitempty"`
	FrequencyOffset             Int64           `json:"frequency_offset,omitempty"`
	FrequencyDrift              Int32           `json:"frequency_drift,omitempty"`
	HoppingWidth                Uint32          `json:"hopping_width,omitempty"`
	Location                    *Location       `json:"location,omitempty"`
	DownlinkPathConstraint      string          `json:"downlink_path_constraint,omitempty"`
	UplinkToken                 Bytes           `json:"uplink_token,omitempty"`
	ChannelIndex                Uint32          `json:"channel_index,omitempty"`
	GPSTime                     *time.Time      `json:"gps_time,omitempty"`
	ReceivedAt                  *time.Time      `json:"received_at,omitempty"`
	Advanced                    json.RawMessage `json:"advanced,omitempty"`
}

// Location is a place on Earth.
type Location struct {
	Latitude  float64 `json:"latitude,omitempty"`
	Longitude float64 `json:"longitude,omitempty"`
	Altitude  int32   `json:"altitude,omitempty"`
	Accuracy  int32   `json:"accuracy,omitempty"`
	Source    string  `json:"source,omitempty"`
}

// TxSettings say how a frame was sent.
type TxSettings struct {
	DataRate              DataRate        `json:"data_rate"`
	Frequency             Uint64          `json:"frequency,omitempty"`
	EnableCRC             bool            `json:"enable_crc,omitempty"`
	Timestamp             Uint32          `json:"timestamp,omitempty"`
	Time                  *time.Time      `json:"time,omitempty"`
	ConcentratorTimestamp Int64           `json:"concentrator_timestamp,omitempty"` // ns; in simulated messages only, as is downlink
	Downlink              json.RawMessage `json:"downlink,omitempty"`
}

// DataRate has exactly one member set.
type DataRate struct {
	LoRa   *LoRaDataRate   `json:"lora,omitempty"`
	FSK    *FSKDataRate    `json:"fsk,omitempty"`
	LRFHSS *LRFHSSDataRate `json:"lrfhss,omitempty"`
}

type LoRaDataRate struct {
	Bandwidth       Uint32 `json:"bandwidth,omitempty"`
	SpreadingFactor Uint32 `json:"spreading_factor,omitempty"`
	CodingRate      string `json:"coding_rate,omitempty"`
}

type FSKDataRate struct {
	BitRate Uint32 `json:"bit_rate,omitempty"`
}

type LRFHSSDataRate struct {
	ModulationType        Uint32 `json:"modulation_type,omitempty"`
	OperatingChannelWidth Uint32 `json:"operating_channel_width,omitempty"`
	CodingRate            string `json:"coding_rate,omitempty"`
}

// VersionIDs name a device's make and model.
type VersionIDs struct {
	BrandID         string `json:"brand_id,omitempty"`
	ModelID         string `json:"model_id,omitempty"`
	HardwareVersion string `json:"hardware_version,omitempty"`
	FirmwareVersion string `json:"firmware_version,omitempty"`
	BandID          string `json:"band_id,omitempty"`
}

// NetworkIDs name the network that a message came through.
type NetworkIDs struct {
	NetID          string `json:"net_id,omitempty"`
	NSID           string `json:"ns_id,omitempty"`
	TenantID       string `json:"tenant_id,omitempty"`
	ClusterID      string `json:"cluster_id,omitempty"`
	ClusterAddress string `json:"cluster_address,omitempty"`
	TenantAddress  string `json:"tenant_address,omitempty"`
}

// BatteryPercentage is the battery state of the last DevStatusAns.
type BatteryPercentage struct {
	FCnt       Uint32     `json:"f_cnt,omitempty"`
	Value      float32    `json:"value,omitempty"`
	ReceivedAt *time.Time `json:"received_at,omitempty"`
}
