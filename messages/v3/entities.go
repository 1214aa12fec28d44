package v3

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"lorikeet/messages"
)

// KeyEnvelope carries a key in clear as hex. Kept as given otherwise (kek_label, encrypted_key).
type KeyEnvelope struct {
	Key          *HexKey `json:"key,omitempty"`
	KEKLabel     string  `json:"kek_label,omitempty"`
	EncryptedKey Bytes   `json:"encrypted_key,omitempty"`
}

// HexKey is a key that is written out in JSON, for the places where the reader has the right to see it and for sealed records.
type HexKey messages.Key

func (k HexKey) MarshalText() ([]byte, error) { return []byte(messages.Key(k).Hex()), nil }
func (k *HexKey) UnmarshalText(b []byte) error {
	key, err := messages.ParseKey(string(b))
	*k = HexKey(key)
	return err
}
func (k HexKey) String() string             { return "***" }
func (k HexKey) GoString() string           { return "***" }
func (k HexKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("***")) }
func (k HexKey) LogValue() slog.Value       { return slog.StringValue("***") }

// RootKeys of a device. A LoRaWAN 1.0.x device has only AppKey.
type RootKeys struct {
	RootKeyID string       `json:"root_key_id,omitempty"`
	AppKey    *KeyEnvelope `json:"app_key,omitempty"`
	NwkKey    *KeyEnvelope `json:"nwk_key,omitempty"`
}

// SessionKeys of a device. In LoRaWAN 1.0.x f_nwk_s_int_key is the NwkSKey.
type SessionKeys struct {
	SessionKeyID Bytes        `json:"session_key_id,omitempty"`
	FNwkSIntKey  *KeyEnvelope `json:"f_nwk_s_int_key,omitempty"`
	SNwkSIntKey  *KeyEnvelope `json:"s_nwk_s_int_key,omitempty"`
	NwkSEncKey   *KeyEnvelope `json:"nwk_s_enc_key,omitempty"`
	AppSKey      *KeyEnvelope `json:"app_s_key,omitempty"`
}

// Session of a device, as the NS and AS views show and set it.
type Session struct {
	DevAddr       *messages.DevAddr     `json:"dev_addr,omitempty"`
	Keys          SessionKeys           `json:"keys,omitzero"`
	LastFCntUp    Uint32                `json:"last_f_cnt_up,omitempty"`
	LastNFCntDown Uint32                `json:"last_n_f_cnt_down,omitempty"`
	LastAFCntDown Uint32                `json:"last_a_f_cnt_down,omitempty"`
	StartedAt     *time.Time            `json:"started_at,omitempty"`
	Queue         []ApplicationDownlink `json:"queued_application_downlinks,omitempty"`
}

// Formatters of a device or an application.
type Formatters struct {
	UpFormatter            messages.FormatterKind `json:"up_formatter,omitempty"`
	UpFormatterParameter   string                 `json:"up_formatter_parameter,omitempty"`
	DownFormatter          messages.FormatterKind `json:"down_formatter,omitempty"`
	DownFormatterParameter string                 `json:"down_formatter_parameter,omitempty"`
}

// MACSettings of a device, as far as the server acts on them; the rest is kept as given in Other by the registry.
type MACSettings struct {
	RX1Delay                 json.RawMessage `json:"rx1_delay,omitempty"`            // {"value":5}, 5 or "RX_DELAY_5"
	DesiredRX1Delay          json.RawMessage `json:"desired_rx1_delay,omitempty"`    // as rx1_delay; given to OTAA devices in the join-accept
	RX1DataRateOffset        json.RawMessage `json:"rx1_data_rate_offset,omitempty"` // {"value":0} or 0
	RX2DataRateIndex         json.RawMessage `json:"rx2_data_rate_index,omitempty"`  // {"value":0}, 0 or "DATA_RATE_0"
	RX2Frequency             Uint64          `json:"rx2_frequency,omitempty"`        // Hz
	FactoryPresetFrequencies []Uint64        `json:"factory_preset_frequencies,omitempty"`
	Supports32BitFCnt        *BoolValue      `json:"supports_32_bit_f_cnt,omitempty"` // nil = true
	ResetsFCnt               *BoolValue      `json:"resets_f_cnt,omitempty"`          // ABP only, nil = false

	Other map[string]json.RawMessage `json:"-"` // members without a field above, as given
}

// BoolValue is a bool or {"value":bool} in JSON; written as the bare value.
type BoolValue bool

func (b *BoolValue) UnmarshalJSON(in []byte) error {
	var w struct {
		Value bool `json:"value"`
	}
	if len(in) > 0 && in[0] == '{' {
		err := json.Unmarshal(in, &w)
		*b = BoolValue(w.Value)
		return err
	}
	return json.Unmarshal(in, (*bool)(b))
}

// EndDevice is a device with the fields of all four views of The Things Stack (IS, NS, AS, JS).
type EndDevice struct {
	IDs EndDeviceIDs `json:"ids,omitzero"`

	// IS
	CreatedAt                *time.Time          `json:"created_at,omitempty"`
	UpdatedAt                *time.Time          `json:"updated_at,omitempty"`
	ActivatedAt              *time.Time          `json:"activated_at,omitempty"`
	LastSeenAt               *time.Time          `json:"last_seen_at,omitempty"`
	Name                     string              `json:"name,omitempty"`
	Description              string              `json:"description,omitempty"`
	Attributes               map[string]string   `json:"attributes,omitempty"`
	VersionIDs               *VersionIDs         `json:"version_ids,omitempty"`
	NetworkServerAddress     string              `json:"network_server_address,omitempty"`
	ApplicationServerAddress string              `json:"application_server_address,omitempty"`
	JoinServerAddress        string              `json:"join_server_address,omitempty"`
	ServiceProfileID         string              `json:"service_profile_id,omitempty"`
	SerialNumber             string              `json:"serial_number,omitempty"`
	Locations                map[string]Location `json:"locations,omitempty"`
	ClaimAuthenticationCode  json.RawMessage     `json:"claim_authentication_code,omitempty"`
	LoRaAllianceProfileIDs   json.RawMessage     `json:"lora_alliance_profile_ids,omitempty"`
	Picture                  json.RawMessage     `json:"picture,omitempty"`
	ClaimedFrom              *EndDeviceIDs       `json:"claimed_from,omitempty"` // additive, output only: what the device was before it was claimed

	// NS
	FrequencyPlanID   string       `json:"frequency_plan_id,omitempty"`
	LoRaWANVersion    string       `json:"lorawan_version,omitempty"`
	LoRaWANPHYVersion string       `json:"lorawan_phy_version,omitempty"`
	SupportsJoin      bool         `json:"supports_join,omitempty"`
	SupportsClassB    bool         `json:"supports_class_b,omitempty"`
	SupportsClassC    bool         `json:"supports_class_c,omitempty"`
	Multicast         bool         `json:"multicast,omitempty"`
	MACSettings       *MACSettings `json:"mac_settings,omitempty"`
	Session           *Session     `json:"session,omitempty"`         // never stored in the registry: the device actor owns it
	PendingSession    *Session     `json:"pending_session,omitempty"` // likewise

	// Of the last DevStatusAns; the device actor owns these too.
	BatteryPercentage       *float32   `json:"battery_percentage,omitempty"` // 0 to 1
	DownlinkMargin          Int32      `json:"downlink_margin,omitempty"`    // dB
	PowerState              string     `json:"power_state,omitempty"`        // POWER_BATTERY or POWER_EXTERNAL
	LastDevStatusReceivedAt *time.Time `json:"last_dev_status_received_at,omitempty"`

	// AS
	Formatters        *Formatters `json:"formatters,omitempty"`
	SkipPayloadCrypto bool        `json:"skip_payload_crypto,omitempty"`
	// SkipPayloadCryptoOverride wins over the application's link, in both directions.
	SkipPayloadCryptoOverride *BoolValue `json:"skip_payload_crypto_override,omitempty"`

	// JS
	RootKeys            *RootKeys       `json:"root_keys,omitempty"`
	NetID               string          `json:"net_id,omitempty"`
	ProvisionerID       string          `json:"provisioner_id,omitempty"`
	ProvisioningData    json.RawMessage `json:"provisioning_data,omitempty"`
	ResetsJoinNonces    bool            `json:"resets_join_nonces,omitempty"`
	LastDevNonce        Uint32          `json:"last_dev_nonce,omitempty"`
	UsedDevNonces       []Uint32        `json:"used_dev_nonces,omitempty"`
	LastJoinNonce       Uint32          `json:"last_join_nonce,omitempty"`
	ApplicationServerID string          `json:"application_server_id,omitempty"`
	// ApplicationServerKEKLabel names the KEK that wraps the AppSKey in events and views; it wins over that of the application.
	ApplicationServerKEKLabel string `json:"application_server_kek_label,omitempty"`
	NetworkServerKEKLabel     string `json:"network_server_kek_label,omitempty"` // kept as given: the network layer is in this server
}

// DeviceID of the device.
func (d *EndDevice) DeviceID() messages.DeviceID {
	return messages.DeviceID{ApplicationID: d.IDs.ApplicationIDs.ApplicationID, DeviceID: d.IDs.DeviceID}
}

// Application groups devices.
type Application struct {
	IDs                      ApplicationIDs    `json:"ids,omitzero"`
	CreatedAt                *time.Time        `json:"created_at,omitempty"`
	UpdatedAt                *time.Time        `json:"updated_at,omitempty"`
	Name                     string            `json:"name,omitempty"`
	Description              string            `json:"description,omitempty"`
	Attributes               map[string]string `json:"attributes,omitempty"`
	NetworkServerAddress     string            `json:"network_server_address,omitempty"`
	ApplicationServerAddress string            `json:"application_server_address,omitempty"`
	JoinServerAddress        string            `json:"join_server_address,omitempty"`
}

// Link holds what an application gives its devices by default.
type Link struct {
	DefaultFormatters *Formatters `json:"default_formatters,omitempty"`
	SkipPayloadCrypto bool        `json:"skip_payload_crypto,omitempty"`
	Retention         *Retention  `json:"retention,omitempty"` // additive
}

// Retention is how long the events of an application are kept, within what the server keeps. Zero values set no limit.
type Retention struct {
	MaxAge    Duration `json:"max_age,omitempty"`
	MaxEvents Uint64   `json:"max_events,omitempty"`
}

// APIKey as REST shows it. Key is set only in the answer to its creation.
type APIKey struct {
	ID        string           `json:"id,omitempty"`
	Key       string           `json:"key,omitempty"`
	Name      string           `json:"name,omitempty"`
	Rights    []messages.Right `json:"rights,omitempty"`
	CreatedAt *time.Time       `json:"created_at,omitempty"`
	UpdatedAt *time.Time       `json:"updated_at,omitempty"`
	ExpiresAt *time.Time       `json:"expires_at,omitempty"`
}

// WebhookIDs names a webhook.
type WebhookIDs struct {
	ApplicationIDs ApplicationIDs `json:"application_ids,omitzero"`
	WebhookID      string         `json:"webhook_id,omitempty"`
}

// MessagePath enables a message type of a webhook by being there; Path is appended to the base URL.
type MessagePath struct {
	Path string `json:"path,omitempty"`
}

// Webhook of an application.
type Webhook struct {
	IDs            WebhookIDs        `json:"ids,omitzero"`
	CreatedAt      *time.Time        `json:"created_at,omitempty"`
	UpdatedAt      *time.Time        `json:"updated_at,omitempty"`
	BaseURL        string            `json:"base_url,omitempty"`
	Headers        map[string]string `json:"headers,omitempty"`
	Format         string            `json:"format,omitempty"`
	DownlinkAPIKey string            `json:"downlink_api_key,omitempty"`
	TemplateIDs    json.RawMessage   `json:"template_ids,omitempty"`
	TemplateFields map[string]string `json:"template_fields,omitempty"`
	FieldMask      *FieldMask        `json:"field_mask,omitempty"`
	Paused         bool              `json:"paused,omitempty"`
	HealthStatus   json.RawMessage   `json:"health_status,omitempty"` // output only

	// Additive to The Things Stack.
	DeliveryStatus json.RawMessage `json:"delivery_status,omitempty"` // output only
	SigningSecret  Secrets         `json:"signing_secret,omitempty"`  // never in answers, but once when it was generated
	TLSCA          Bytes           `json:"tls_ca,omitempty"`          // PEM; nil: the CAs of the system
	TLSClientCert  Bytes           `json:"tls_client_cert,omitempty"` // PEM
	TLSClientKey   Bytes           `json:"tls_client_key,omitempty"`  // PEM; never in answers
	Batch          *WebhookBatch   `json:"batch,omitempty"`           // nil: one event a request

	UplinkMessage            *MessagePath `json:"uplink_message,omitempty"`
	UplinkNormalized         *MessagePath `json:"uplink_normalized,omitempty"`
	JoinAccept               *MessagePath `json:"join_accept,omitempty"`
	DownlinkAck              *MessagePath `json:"downlink_ack,omitempty"`
	DownlinkNack             *MessagePath `json:"downlink_nack,omitempty"`
	DownlinkSent             *MessagePath `json:"downlink_sent,omitempty"`
	DownlinkFailed           *MessagePath `json:"downlink_failed,omitempty"`
	DownlinkQueued           *MessagePath `json:"downlink_queued,omitempty"`
	DownlinkQueueInvalidated *MessagePath `json:"downlink_queue_invalidated,omitempty"`
	LocationSolved           *MessagePath `json:"location_solved,omitempty"`
	ServiceData              *MessagePath `json:"service_data,omitempty"`
}

// Path gives the path of a message type; ok is false if the webhook does not want the type.
func (w *Webhook) Path(t messages.EventType) (path string, ok bool) {
	m := map[messages.EventType]*MessagePath{
		messages.EventUplink: w.UplinkMessage, messages.EventUplinkNormalized: w.UplinkNormalized, messages.EventJoin: w.JoinAccept,
		messages.EventDownAck: w.DownlinkAck, messages.EventDownNack: w.DownlinkNack, messages.EventDownSent: w.DownlinkSent,
		messages.EventDownFailed: w.DownlinkFailed, messages.EventDownQueued: w.DownlinkQueued,
		messages.EventDownInvalidated: w.DownlinkQueueInvalidated, messages.EventLocationSolved: w.LocationSolved, messages.EventServiceData: w.ServiceData,
	}[t]
	if m == nil {
		return "", false
	}
	return m.Path, true
}

// PubSubIDs names a pub/sub integration.
type PubSubIDs struct {
	ApplicationIDs ApplicationIDs `json:"application_ids,omitzero"`
	PubSubID       string         `json:"pub_sub_id,omitempty"`
}

// MessageTopic enables a message type of a pub/sub integration by being there; Topic is appended to the base topic.
type MessageTopic struct {
	Topic string `json:"topic,omitempty"`
}

// NATSProvider says how to reach a NATS server. Credentials are in the URL's user info, as in The Things Stack, or in one of the additive members.
type NATSProvider struct {
	ServerURL     string         `json:"server_url,omitempty"`      // or several, separated by commas
	Credentials   string         `json:"credentials,omitempty"`     // additive: the text of a .creds file (JWT and seed)
	NkeySeed      string         `json:"nkey_seed,omitempty"`       // additive: the seed of a user's NKey, SU…
	TLSCA         Bytes          `json:"tls_ca,omitempty"`          // additive: PEM, as of MQTT
	TLSClientCert Bytes          `json:"tls_client_cert,omitempty"` // additive
	TLSClientKey  Bytes          `json:"tls_client_key,omitempty"`  // additive
	JetStream     *NATSJetStream `json:"jetstream,omitempty"`       // additive
}

// NATSJetStream says what goes through streams, which the owner of the NATS server makes.
type NATSJetStream struct {
	Enabled   bool   `json:"enabled,omitempty"`   // events are delivered once the stream that keeps them has acknowledged them
	Stream    string `json:"stream,omitempty"`    // refuse to publish into another one; "" = whichever has the subject
	Downlinks bool   `json:"downlinks,omitempty"` // downlink requests are read from the stream that keeps them, so that none is missed
}

// MQTTProvider says how to reach an external MQTT server.
type MQTTProvider struct {
	ServerURL     string            `json:"server_url,omitempty"`
	ClientID      string            `json:"client_id,omitempty"`
	Username      string            `json:"username,omitempty"`
	Password      string            `json:"password,omitempty"`
	SubscribeQoS  QoS               `json:"subscribe_qos,omitempty"`
	PublishQoS    QoS               `json:"publish_qos,omitempty"`
	UseTLS        bool              `json:"use_tls,omitempty"`
	TLSCA         Bytes             `json:"tls_ca,omitempty"`
	TLSClientCert Bytes             `json:"tls_client_cert,omitempty"`
	TLSClientKey  Bytes             `json:"tls_client_key,omitempty"`
	Headers       map[string]string `json:"headers,omitempty"`
	// PersistentSession is additive: the server keeps downlink requests while there is no connection (MQTT 3.1.1 §3.1.2.4: clean session off).
	PersistentSession bool `json:"persistent_session,omitempty"`
}

// QoS of MQTT: AT_MOST_ONCE, AT_LEAST_ONCE or EXACTLY_ONCE; numbers 0 to 2 are accepted.
type QoS string

const (
	QoSAtMostOnce  QoS = "AT_MOST_ONCE"
	QoSAtLeastOnce QoS = "AT_LEAST_ONCE"
	QoSExactlyOnce QoS = "EXACTLY_ONCE"
)

// UnmarshalJSON accepts a name or its number. An unknown name is an error (The Things Stack reads it as AT_MOST_ONCE).
func (q *QoS) UnmarshalJSON(in []byte) error {
	switch s := strings.Trim(string(in), `"`); s {
	case "", "null":
		*q = ""
	case "0", string(QoSAtMostOnce):
		*q = QoSAtMostOnce
	case "1", string(QoSAtLeastOnce):
		*q = QoSAtLeastOnce
	case "2", string(QoSExactlyOnce):
		*q = QoSExactlyOnce
	default:
		return fmt.Errorf("QoS: use one of %s, %s, %s", QoSAtMostOnce, QoSAtLeastOnce, QoSExactlyOnce)
	}
	return nil
}

// PubSub integration of an application.
type PubSub struct {
	IDs       PubSubIDs       `json:"ids,omitzero"`
	CreatedAt *time.Time      `json:"created_at,omitempty"`
	UpdatedAt *time.Time      `json:"updated_at,omitempty"`
	Format    string          `json:"format,omitempty"`
	NATS      *NATSProvider   `json:"nats,omitempty"`
	MQTT      *MQTTProvider   `json:"mqtt,omitempty"`
	AWSIoT    json.RawMessage `json:"aws_iot,omitempty"` // refused
	BaseTopic string          `json:"base_topic,omitempty"`

	DownlinkPush    *MessageTopic `json:"downlink_push,omitempty"`
	DownlinkReplace *MessageTopic `json:"downlink_replace,omitempty"`

	UplinkMessage            *MessageTopic `json:"uplink_message,omitempty"`
	UplinkNormalized         *MessageTopic `json:"uplink_normalized,omitempty"`
	JoinAccept               *MessageTopic `json:"join_accept,omitempty"`
	DownlinkAck              *MessageTopic `json:"downlink_ack,omitempty"`
	DownlinkNack             *MessageTopic `json:"downlink_nack,omitempty"`
	DownlinkSent             *MessageTopic `json:"downlink_sent,omitempty"`
	DownlinkFailed           *MessageTopic `json:"downlink_failed,omitempty"`
	DownlinkQueued           *MessageTopic `json:"downlink_queued,omitempty"`
	DownlinkQueueInvalidated *MessageTopic `json:"downlink_queue_invalidated,omitempty"`
	LocationSolved           *MessageTopic `json:"location_solved,omitempty"`
	ServiceData              *MessageTopic `json:"service_data,omitempty"`
}

// Topic gives the topic of a message type; ok is false if the integration does not want the type.
func (p *PubSub) Topic(t messages.EventType) (topic string, ok bool) {
	m := map[messages.EventType]*MessageTopic{
		messages.EventUplink: p.UplinkMessage, messages.EventUplinkNormalized: p.UplinkNormalized, messages.EventJoin: p.JoinAccept,
		messages.EventDownAck: p.DownlinkAck, messages.EventDownNack: p.DownlinkNack, messages.EventDownSent: p.DownlinkSent,
		messages.EventDownFailed: p.DownlinkFailed, messages.EventDownQueued: p.DownlinkQueued,
		messages.EventDownInvalidated: p.DownlinkQueueInvalidated, messages.EventLocationSolved: p.LocationSolved, messages.EventServiceData: p.ServiceData,
	}[t]
	if m == nil {
		return "", false
	}
	return m.Topic, true
}

// Gateway is a radio gateway.
type Gateway struct {
	IDs              GatewayIDs        `json:"ids,omitzero"`
	CreatedAt        *time.Time        `json:"created_at,omitempty"`
	UpdatedAt        *time.Time        `json:"updated_at,omitempty"`
	Name             string            `json:"name,omitempty"`
	Description      string            `json:"description,omitempty"`
	Attributes       map[string]string `json:"attributes,omitempty"`
	FrequencyPlanID  string            `json:"frequency_plan_id,omitempty"`
	FrequencyPlanIDs []string          `json:"frequency_plan_ids,omitempty"`
	ServerAddress    string            `json:"gateway_server_address,omitempty"` // as the client gave it
	Antennas         []GatewayAntenna  `json:"antennas,omitempty"`
	StatusPublic     bool              `json:"status_public,omitempty"`
	LocationPublic   bool              `json:"location_public,omitempty"`
	AutoRegistered   bool              `json:"auto_registered,omitempty"` // additive: seen first on air, not created by a person
}

// GatewayAntenna of a radio gateway.
type GatewayAntenna struct {
	Gain     float32   `json:"gain,omitempty"`
	Location *Location `json:"location,omitempty"`
}

// FieldMask is a list of paths; "a,b.c" is accepted too.
type FieldMask struct {
	Paths []string `json:"paths,omitempty"`
}

func (m *FieldMask) UnmarshalJSON(in []byte) error {
	var s string
	if json.Unmarshal(in, &s) == nil {
		m.Paths = splitPaths(s)
		return nil
	}
	var w struct {
		Paths []string `json:"paths"`
	}
	if err := json.Unmarshal(in, &w); err != nil {
		return err
	}
	m.Paths = w.Paths
	return nil
}
