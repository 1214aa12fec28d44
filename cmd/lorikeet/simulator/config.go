package simulator

import (
	"errors"
	"fmt"
	"net"
	"time"

	"lorikeet/messages"
)

// Activation is how devices get their session.
type Activation string

// The activations.
const (
	OTAA Activation = "OTAA"
	ABP  Activation = "ABP"
)

// Config says what Run simulates. Start from DefaultConfig.
type Config struct {
	Devices  int     // number of devices
	Gateways int     // number of radio gateways
	Copies   int     // how many radio gateways hear each uplink
	Rate     float64 // uplinks a second of all devices together; the pace does not follow the server
	// Duration and Count end the run, whichever comes first. 0: no such limit; one must be set.
	Duration time.Duration
	Count    int
	Batch    int // frames of one radio gateway that may share a datagram; 1: none

	Activation Activation
	Region     Region
	SubBand    int // US915: 1 to 8
	DataRate   int // of uplinks; negative: the fastest at 125 kHz
	ADR        bool
	Payload    string  // "hex:0102", "counter", "cayennelpp", "random:16" (bytes)
	FPort      uint8   // 1 to 223
	Confirmed  float64 // share of confirmed uplinks, 0 to 1
	// DownlinkEvery pushes a downlink over MQTT for one in so many uplinks; 0: none.
	DownlinkEvery     int
	ConfirmedDownlink bool

	JoinRate     float64       // join-requests a second
	JoinTimeout  time.Duration // until a device joins again
	JoinAttempts int
	Drain        time.Duration // how long to wait for the last events

	Seed      uint64 // of ids, EUIs and keys: the same seed finds the same devices
	StateFile string // keeps DevNonces and counters from run to run; empty: start at DevNonce, FCntUp and FCntDown 0

	// UDP, HTTP and MQTT are one address or several, separated by commas, of the nodes of a cluster. Radio gateways are spread over them and move to
	// the next when theirs does not answer; REST and MQTT use one and go on to the next when it is away.
	UDP  string // host:port of the Semtech UDP listener
	HTTP string // http(s)://host:port of the REST API; empty: the devices are there already
	MQTT string // tcp://host:port of the MQTT broker; empty: events are not watched
	// Forget: a radio gateway that moves to another server does not send again there what was not acknowledged.
	Forget bool
	// WebhookListen is the host:port where the simulator receives webhooks; the servers must reach it, port 0 takes a free one. A webhook is made over
	// REST for the time of the run, and a judge follows every single uplink: see Verdict. Empty: no webhook, no judge.
	WebhookListen string
	AdminKey      string // for REST
	APIKey        string // for MQTT; empty: one is made over REST
	ApplicationID string
	Formatter     messages.Formatter // default formatter of the application; Kind empty: left as it is
	QoS           byte               // of the MQTT subscription and of pushed downlinks: 0 to 2
	// Persistent keeps the MQTT session over lost connections, so that events of that time are delivered later.
	Persistent bool

	RealTime       bool // downlinks reach the devices when their windows open
	OneTransmitter bool // overlapping downlinks of a radio gateway collide
	Lead           time.Duration
	KeepAlive      time.Duration // between two PULL_DATA
	Stat           time.Duration // between two "stat" reports; 0: none
	GPS            bool
	// Fault is what a radio gateway answers to a share of the downlinks; FaultRX1 spares those in RX2.
	Fault      messages.TxError
	FaultShare float64
	FaultRX1   bool

	Event func(topic string, payload []byte) // is shown each event as it arrives over MQTT; it must not block; nil: not wanted
	// Accepted is told of each uplink whose acceptance becomes known, once; it must not block; nil: not wanted. It needs WebhookListen.
	Accepted func(device string)
	// Marks says when something is done to the servers. It is read during the whole run; nil: nothing is done.
	Marks <-chan Mark
	// Stop, when closed, ends the sending; the last events are still awaited. nil: not wanted.
	Stop <-chan struct{}
}

// DefaultConfig is a small run against a server on this machine. AdminKey is still to be set.
func DefaultConfig() Config {
	return Config{
		Devices: 10, Gateways: 1, Copies: 1, Rate: 1, Duration: time.Minute, Batch: 1,
		Activation: OTAA, Region: EU868, SubBand: 2, DataRate: -1, ADR: true, Payload: "cayennelpp", FPort: 1,
		JoinRate: 50, JoinTimeout: 10 * time.Second, JoinAttempts: 6, Drain: 15 * time.Second, Seed: 1,
		UDP: "127.0.0.1:1700", HTTP: "http://127.0.0.1:1885", MQTT: "tcp://127.0.0.1:1883", ApplicationID: "simulation", QoS: 1,
		RealTime: true, Lead: 30 * time.Millisecond, KeepAlive: 5 * time.Second, Stat: 30 * time.Second,
	}
}

// Validate names every setting that can't work.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Devices >= 1 && c.Devices <= 1_000_000, "devices %d: use 1 to 1000000", c.Devices)
	check(c.Gateways >= 1 && c.Gateways <= 10_000, "radio gateways %d: use 1 to 10000", c.Gateways)
	check(c.Copies >= 1 && c.Copies <= c.Gateways, "copies %d: use 1 to the number of radio gateways (%d)", c.Copies, c.Gateways)
	check(c.Rate > 0 && c.Rate <= 1e6, "rate %g: use more than 0 and at most 1000000 uplinks a second", c.Rate)
	check(c.Duration >= 0 && c.Count >= 0 && (c.Duration > 0 || c.Count > 0), "set a duration or a count of uplinks")
	check(c.Batch >= 1 && c.Batch <= 100, "batch %d: use 1 to 100 frames a datagram", c.Batch)
	check(c.Activation == OTAA || c.Activation == ABP, "activation %q: use %s or %s", c.Activation, OTAA, ABP)
	check(c.Region != US915 || c.SubBand >= 1, "sub-band %d: %s needs 1 to 8", c.SubBand, US915)
	check(c.FPort >= 1 && c.FPort <= 223, "FPort %d: use 1 to 223", c.FPort)
	check(c.Confirmed >= 0 && c.Confirmed <= 1, "confirmed share %g: use 0 to 1", c.Confirmed)
	check(c.FaultShare >= 0 && c.FaultShare <= 1, "fault share %g: use 0 to 1", c.FaultShare)
	check(c.FaultShare == 0 || c.Fault != "", "fault: say what the radio gateways answer, e.g. %s", messages.TxTooLate)
	check(c.DownlinkEvery >= 0, "one downlink in %d uplinks: use 0 or more", c.DownlinkEvery)
	check(c.DownlinkEvery == 0 || c.MQTT != "", "downlinks are pushed over MQTT: set its address")
	check(c.Activation != OTAA || c.JoinRate > 0 && c.JoinTimeout > 0 && c.JoinAttempts > 0, "join rate, time-out and attempts must be more than 0")
	check(c.QoS <= 2, "QoS %d: use 0, 1 or 2", c.QoS)
	if host, _, err := net.SplitHostPort(c.WebhookListen); c.WebhookListen != "" {
		ip := net.ParseIP(host)
		check(err == nil && host != "" && (ip == nil || !ip.IsUnspecified()), "webhook receiver %q: use host:port with an address that the servers reach, e.g. 127.0.0.1:0", c.WebhookListen)
	}
	check(c.WebhookListen == "" || c.HTTP != "", "a webhook is made over REST: set its address and an admin key")
	check(c.WebhookListen != "" || c.Accepted == nil && c.Marks == nil, "marks and acceptances are for the judge: set where webhooks are received")
	check(c.UDP != "", "set the address of the Semtech UDP listener")
	check(c.HTTP == "" || c.AdminKey != "", "provisioning over REST needs an admin key")
	check(c.MQTT == "" || c.APIKey != "" || c.HTTP != "", "MQTT needs an API key, or the REST address and an admin key to make one")
	if err := messages.ValidateID(c.ApplicationID); err != nil {
		errs = append(errs, fmt.Errorf("application: %w", err))
	}
	p, err := planOf(c.Region)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	check(c.SubBand >= 0 && c.SubBand <= 8, "sub-band %d: use 1 to 8, or 0 for all channels", c.SubBand)
	dr := c.DataRate
	if dr < 0 {
		dr = p.defaultDR
	}
	check(dr < p.uplinkDRs, "data rate %d: %s has 0 to %d", dr, c.Region, p.uplinkDRs-1)
	if _, size, err := parsePayload(c.Payload); err != nil {
		errs = append(errs, err)
	} else if dr < p.uplinkDRs {
		check(size <= p.maxPayload[dr], "payload of %d bytes: data rate %d of %s takes %d", size, dr, c.Region, p.maxPayload[dr])
	}
	return errors.Join(errs...)
}
