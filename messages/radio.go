package messages

import "time"

// Modulation is how a frame is put on air.
type Modulation uint8

const (
	LoRa Modulation = iota
	FSK
	LRFHSS
)

// DataRate is a modulation with its parameters.
type DataRate struct {
	Modulation      Modulation
	SpreadingFactor uint8  // LoRa
	Bandwidth       uint32 // Hz; LoRa, and the operating channel width of LR-FHSS
	BitRate         uint32 // bit/s; FSK
	ModulationType  uint8  // LR-FHSS
	CodingRate      string // "4/5"; LoRa and LR-FHSS
}

// TxSettings say how a frame was sent.
type TxSettings struct {
	DataRate  DataRate
	Frequency uint64 // Hz
	Timestamp uint32 // concentrator counter in µs at the end of the frame, of the radio gateway that Rx[0] names
	Time      time.Time
	EnableCRC bool
}

// Location is a place on Earth. Latitude and longitude in degrees, altitude and accuracy in metres.
type Location struct {
	Latitude, Longitude float64
	Altitude, Accuracy  int32
	Source              string // e.g. SOURCE_GPS, SOURCE_REGISTRY
}

// RxMetadata is one reception of a frame by one antenna of one radio gateway.
type RxMetadata struct {
	GatewayID             string
	GatewayEUI            EUI64
	AntennaIndex          uint32
	Time                  time.Time // clock of the radio gateway; zero if it has none
	GPSTime               time.Time // from tmms; zero if there is none
	Timestamp             uint32    // concentrator counter, µs
	FineTimestamp         uint64    // ns within the second
	HasFineTimestamp      bool
	EncryptedFineTime     []byte
	EncryptedFineTimeKey  string
	RSSI                  float32 // of the packet if known, else of the channel; dBm
	ChannelRSSI           float32
	SignalRSSI            *float32
	RSSIStandardDeviation float32 // of the signal during the preamble, dB; 0: not told
	SNR                   float32
	FrequencyOffset       int64
	HoppingWidth          uint32
	ChannelIndex          uint32
	Location              *Location
	ReceivedAt            time.Time // server clock, when the datagram was read
	UplinkToken           []byte    // opaque: lets a downlink find the antenna; made and read by the door it came through
	Board, RFChain        uint32
	Node                  string // the node of a cluster that took it in; empty on a single node
}

// Frame is a PHYPayload as one radio gateway received it (several antennas give several RxMetadata). It is immutable once sent on.
type Frame struct {
	PHYPayload    []byte
	Settings      TxSettings
	Rx            []RxMetadata
	ReceivedAt    time.Time
	CorrelationID string // "gs:uplink:<ULID>"
}

// TxTiming says when a downlink starts.
type TxTiming uint8

const (
	TxAtTimestamp TxTiming = iota // Timestamp of the concentrator (class A)
	TxImmediately                 // class C
)

// TxRequest is one frame for one radio gateway to send once.
type TxRequest struct {
	GatewayEUI  EUI64
	UplinkToken []byte // of the reception that is answered; may be nil for TxImmediately
	PHYPayload  []byte
	Frequency   uint64 // Hz
	DataRate    DataRate
	Power       float32 // dBm EIRP
	Timing      TxTiming
	Timestamp   uint32 // concentrator counter of the first symbol, µs, for TxAtTimestamp
}

// TxError is why a radio gateway did not send; the names are those of the Semtech UDP protocol. Empty means that it was sent.
type TxError string

const (
	TxOK              TxError = ""
	TxTooLate         TxError = "TOO_LATE"
	TxTooEarly        TxError = "TOO_EARLY"
	TxCollisionPacket TxError = "COLLISION_PACKET"
	TxCollisionBeacon TxError = "COLLISION_BEACON"
	TxFrequency       TxError = "TX_FREQ"
	TxPower           TxError = "TX_POWER"
	TxGPSUnlocked     TxError = "GPS_UNLOCKED"
	TxNoPath          TxError = "NO_PATH"   // the radio gateway is not connected
	TxUnanswered      TxError = "NO_TX_ACK" // no answer in time: may have been sent
	TxUnknown         TxError = "UNKNOWN"
)

// GatewayStatus is what a radio gateway says of itself (Semtech "stat").
type GatewayStatus struct {
	GatewayEUI                    EUI64
	Time                          time.Time
	ReceivedAt                    time.Time
	Location                      *Location
	RxReceived, RxOK, RxForwarded uint32
	AckRatio                      float64 // per cent
	TxReceived, TxEmitted         uint32
	Versions                      map[string]string  // e.g. hal, fpga, dsp, pfrm
	Metrics                       map[string]float64 // other numbers, e.g. temp
}
