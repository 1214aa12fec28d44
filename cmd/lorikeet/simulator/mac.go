package simulator

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/brocaar/lorawan"

	"lorikeet/messages"
)

// Delays and limits of LoRaWAN 1.0.3 §3.3, §4.3.1.1, §5 and the regional parameters.
const (
	joinDelay1     = 5 * time.Second
	rx2AfterRX1    = time.Second
	adrAckLimit    = 64
	adrAckDelay    = 32
	maxFCntGap     = 16384
	maxFOpts       = 15
	confirmedTries = 8
)

// Session is an activation: what ABP fixes and OTAA gives.
type Session struct {
	DevAddr          messages.DevAddr
	NwkSKey, AppSKey messages.Key
}

// State is what a device keeps in its non-volatile memory. DevNonce must never go back, and for ABP neither may the frame counters.
type State struct {
	DevNonce uint32 `json:"dev_nonce"`  // the next one; 65536: all are used
	FCntUp   uint32 `json:"f_cnt_up"`   // the next one
	FCntDown uint32 `json:"f_cnt_down"` // the lowest that is accepted
}

// MACConfig describes a device.
type MACConfig struct {
	DevEUI, JoinEUI messages.EUI64
	AppKey          messages.Key // OTAA
	ABP             *Session     // if set, the device is active from the start and never joins
	Region          Region
	SubBand         int // US915: 1 to 8; 0: all channels
	DataRate        int // of uplinks until ADR changes it; negative: the fastest at 125 kHz
	ADR             bool
	ClassC          bool
	// Windows is how many of the latest transmissions still have their receive windows open. A real class A device has 1,
	// and that is the default; a load generator that sends faster than a device may needs more.
	Windows int
	Seed    uint64 // of the choice of channels
	State   State
}

// MAC is the LoRaWAN 1.0.x MAC layer of one device. It is pure: time comes in as delays and randomness from its seed.
// It is not safe for concurrent use.
type MAC struct {
	cfg       MACConfig
	plan      *plan
	rnd       *rand.Rand
	state     State
	session   Session
	active    bool
	crypto    *uplinkCrypto
	channels  []channel
	dataRate  int
	txPower   int
	nbTrans   int
	dr1Offset int
	rx2DR     int
	rx2Freq   uint32
	rxDelay1  time.Duration

	windows    []window // ring, newest last
	sequence   uint64
	joinTries  int
	joinNonces map[uint32]uint16 // JoinNonce seen, with the DevNonce it answered

	last        Transmission // the newest data uplink, for repetition
	lastChannel int
	repeatsLeft int
	waitsAck    bool
	ackDue      bool // a confirmed downlink waits to be acknowledged
	adrAckCnt   int
	answers     []byte            // MAC answers for the next uplink
	sticky      []byte            // MAC answers that are repeated until a downlink comes
	ledger      map[uint32]uint64 // FCntDown of this session seen on air, with a hash of the frame
	accepted    map[uint32]struct{}
}

// Transmission is one frame that a device puts on air.
type Transmission struct {
	PHYPayload []byte
	Frequency  uint32 // Hz
	DataRate   string // as Semtech's "datr", e.g. SF7BW125
	Sequence   uint64 // counts the transmissions of the device, repetitions too
	Join       bool
	FCnt       uint32
	Confirmed  bool
	Repetition bool
}

// Uplink is what an application on the device wants to send.
type Uplink struct {
	FPort                 uint8 // 0: no FPort; Payload must be empty then
	Payload               []byte
	Confirmed             bool
	LinkCheck, DeviceTime bool // adds LinkCheckReq, DeviceTimeReq
}

// NewMAC makes a device. It fails if cfg has an unknown region or an impossible sub-band or data rate.
func NewMAC(cfg MACConfig) (*MAC, error) {
	p, err := planOf(cfg.Region)
	if err != nil {
		return nil, err
	}
	if cfg.SubBand < 0 || cfg.SubBand > 8 {
		return nil, fmt.Errorf("sub-band %d: use 1 to 8, or 0 for all channels", cfg.SubBand)
	}
	if cfg.DataRate < 0 {
		cfg.DataRate = p.defaultDR
	}
	if cfg.DataRate >= p.uplinkDRs {
		return nil, fmt.Errorf("data rate %d: %s has 0 to %d", cfg.DataRate, cfg.Region, p.uplinkDRs-1)
	}
	cfg.Windows = max(cfg.Windows, 1)
	m := &MAC{cfg: cfg, plan: p, state: cfg.State, rnd: rand.New(rand.NewPCG(cfg.Seed, 0x6c6f72696b656574)), joinNonces: map[uint32]uint16{}}
	m.reset()
	if cfg.ABP != nil {
		m.start(*cfg.ABP)
	}
	return m, nil
}

// reset goes back to the region's defaults, as a join does.
func (m *MAC) reset() {
	m.channels, m.dataRate, m.nbTrans = m.plan.defaultChannels(m.cfg.SubBand), m.cfg.DataRate, 1
	m.dr1Offset, m.rx2DR, m.rx2Freq, m.rxDelay1 = 0, m.plan.rx2DataRate, m.plan.rx2Frequency, time.Second
	m.txPower, m.adrAckCnt, m.repeatsLeft = 0, 0, 0
	m.waitsAck, m.ackDue, m.answers, m.sticky = false, false, nil, nil
}

func (m *MAC) start(s Session) {
	m.session, m.active, m.crypto = s, true, newUplinkCrypto(s.NwkSKey, s.AppSKey)
	m.ledger, m.accepted = map[uint32]uint64{}, map[uint32]struct{}{}
}

// Active says whether the device has a session.
func (m *MAC) Active() bool { return m.active }

// Session gives the present session; its zero value if there is none.
func (m *MAC) Session() Session { return m.session }

// State gives what must survive a restart of the device.
func (m *MAC) State() State { return m.state }

// DataRate gives the index of the data rate of the next uplink.
func (m *MAC) DataRate() int { return m.dataRate }

// WaitsForAck says whether the newest uplink was confirmed and is not acknowledged yet.
func (m *MAC) WaitsForAck() bool { return m.waitsAck }

// RXDelay gives the delay from the end of an uplink to RX1; RX2 opens a second later.
func (m *MAC) RXDelay() time.Duration { return m.rxDelay1 }

var errNoSession = errors.New("the device has no session: join first")

// JoinRequest makes a join-request with the next DevNonce. It fails if the device is ABP or has used all 65536 nonces.
func (m *MAC) JoinRequest() (Transmission, error) {
	if m.cfg.ABP != nil {
		return Transmission{}, errors.New("an ABP device does not join")
	}
	if m.state.DevNonce > 0xFFFF {
		return Transmission{}, errors.New("all 65536 DevNonces are used: give the device another JoinEUI")
	}
	nonce := uint16(m.state.DevNonce)
	m.state.DevNonce++
	phy := lorawan.PHYPayload{
		MHDR:       lorawan.MHDR{MType: lorawan.JoinRequest, Major: lorawan.LoRaWANR1},
		MACPayload: &lorawan.JoinRequestPayload{JoinEUI: lorawan.EUI64(m.cfg.JoinEUI), DevEUI: lorawan.EUI64(m.cfg.DevEUI), DevNonce: lorawan.DevNonce(nonce)},
	}
	if err := phy.SetUplinkJoinMIC(lorawan.AES128Key(m.cfg.AppKey)); err != nil {
		return Transmission{}, fmt.Errorf("join-request: %w", err)
	}
	b, err := phy.MarshalBinary()
	if err != nil {
		return Transmission{}, fmt.Errorf("join-request: %w", err)
	}
	// The default channels only; US915 alternates 125 and 500 kHz (RP002 §2.5.3).
	dr, defaults := m.cfg.DataRate, m.plan.defaultChannels(m.cfg.SubBand)
	if m.plan.fixedChannels {
		dr = 4 * (m.joinTries % 2)
	} else if dr > 5 {
		dr = 5 // 250 kHz is not for the default channels
	}
	m.joinTries++
	i := m.pick(defaults, dr, -1)
	m.windows = append(m.windows, window{join: true, devNonce: nonce})
	return m.transmit(Transmission{PHYPayload: b, Join: true}, defaults[i], i, dr), nil
}

// Uplink makes the next data uplink, with the MAC answers and the acknowledgement that are due. It fails if there is no session,
// the counter is exhausted, or the payload is too long for the data rate (FRMPayload and FOpts together).
func (m *MAC) Uplink(u Uplink) (Transmission, error) {
	if !m.active {
		return Transmission{}, errNoSession
	}
	if u.FPort == 0 && len(u.Payload) > 0 {
		return Transmission{}, errors.New("a payload needs an FPort of 1 to 255")
	}
	if m.state.FCntUp == 1<<32-1 {
		return Transmission{}, errors.New("FCntUp is exhausted: join again")
	}
	if len(u.Payload) > m.plan.maxPayload[m.dataRate] {
		return Transmission{}, fmt.Errorf("payload of %d bytes: data rate %d of %s takes %d", len(u.Payload), m.dataRate, m.cfg.Region, m.plan.maxPayload[m.dataRate])
	}
	m.countTowardsADRAck()
	fCnt := m.state.FCntUp
	b := m.frame(u, fCnt)
	i := m.pick(m.channels, m.dataRate, -1)
	if i < 0 {
		return Transmission{}, fmt.Errorf("no enabled channel takes data rate %d", m.dataRate)
	}
	m.state.FCntUp++
	m.answers, m.ackDue = m.answers[:0], false
	m.waitsAck, m.repeatsLeft = u.Confirmed, m.nbTrans-1
	if u.Confirmed {
		m.repeatsLeft = max(confirmedTries, m.nbTrans) - 1
	}
	m.windows = append(m.windows, window{})
	m.last = m.transmit(Transmission{PHYPayload: b, FCnt: fCnt, Confirmed: u.Confirmed}, m.channels[i], i, m.dataRate)
	return m.last, nil
}

// Repeat makes the next repetition of the newest data uplink: the same bytes on another channel. It gives false if none is due,
// since a downlink came (or the acknowledgement, if confirmed) or all tries are spent: 8 if confirmed, else NbTrans of LinkADRReq.
// The caller waits until the windows of the last transmission are closed.
func (m *MAC) Repeat() (Transmission, bool) {
	if m.repeatsLeft <= 0 {
		return Transmission{}, false
	}
	i := m.pick(m.channels, m.dataRate, m.lastChannel)
	if i < 0 {
		return Transmission{}, false
	}
	m.repeatsLeft--
	t := m.last
	t.Repetition = true
	m.windows = append(m.windows, window{})
	return m.transmit(t, m.channels[i], i, m.dataRate), true
}

// transmit completes t and the window that was just appended.
func (m *MAC) transmit(t Transmission, c channel, index, dr int) Transmission {
	m.sequence++
	t.Frequency, t.DataRate, t.Sequence = c.frequency, m.plan.dataRates[dr], m.sequence
	w := &m.windows[len(m.windows)-1]
	w.sequence, w.delay1 = m.sequence, m.rxDelay1
	offset, rx2DR, rx2Freq := m.dr1Offset, m.rx2DR, m.rx2Freq
	if t.Join {
		w.delay1, offset, rx2DR, rx2Freq = joinDelay1, 0, m.plan.rx2DataRate, m.plan.rx2Frequency
	}
	w.frequency[0], w.dataRate[0] = m.plan.rx1Frequency(c, index), m.plan.dataRates[m.plan.rx1DataRate(dr, offset)]
	w.frequency[1], w.dataRate[1] = rx2Freq, m.plan.dataRates[rx2DR]
	if n := len(m.windows) - m.cfg.Windows; n > 0 {
		m.windows = append(m.windows[:0], m.windows[n:]...)
	}
	if !t.Join {
		m.lastChannel = index
	}
	return t
}

// pick chooses among the enabled channels that take dr, not the one to avoid if there is another. -1: there is none.
func (m *MAC) pick(channels []channel, dr, avoid int) int {
	var fit [72]uint8
	n := 0
	for i, c := range channels {
		if c.enabled && c.frequency != 0 && c.minDR <= dr && dr <= c.maxDR {
			fit[n] = uint8(i)
			n++
		}
	}
	if n == 0 {
		return -1
	}
	k := m.rnd.IntN(n)
	if int(fit[k]) == avoid {
		k = (k + 1) % n
	}
	return int(fit[k])
}

// countTowardsADRAck does the bookkeeping of LoRaWAN 1.0.3 §4.3.1.1: without any downlink the data rate goes down step by step.
func (m *MAC) countTowardsADRAck() {
	if !m.cfg.ADR {
		return
	}
	m.adrAckCnt++
	if n := m.adrAckCnt - adrAckLimit; n > 0 && n%adrAckDelay == 0 {
		switch {
		case m.txPower > 0:
			m.txPower = 0
		case m.dataRate > 0:
			m.dataRate--
		default:
			m.channels = m.plan.defaultChannels(m.cfg.SubBand)
		}
	}
}

// frame builds the PHYPayload of a data uplink. MAC commands that do not fit are left out; the server asks again.
func (m *MAC) frame(u Uplink, fCnt uint32) []byte {
	fPort, payload, fOpts := u.FPort, u.Payload, m.dueCommands(u)
	room := m.plan.maxPayload[m.dataRate]
	hasPort := fPort > 0
	if len(fOpts) > maxFOpts && !hasPort {
		payload, fOpts, hasPort = wholeCommands(fOpts, room), nil, true // FPort 0: MAC commands only
	}
	fOpts = wholeCommands(fOpts, min(maxFOpts, room-len(payload)))
	fCtrl := byte(len(fOpts))
	if m.cfg.ADR {
		fCtrl |= 0x80
		if m.adrAckCnt >= adrAckLimit {
			fCtrl |= 0x40
		}
	}
	if m.ackDue {
		fCtrl |= 0x20
	}
	mhdr := byte(lorawan.UnconfirmedDataUp) << 5
	if u.Confirmed {
		mhdr = byte(lorawan.ConfirmedDataUp) << 5
	}
	a := m.session.DevAddr
	b := make([]byte, 0, 13+len(fOpts)+len(payload))
	b = append(b, mhdr, a[3], a[2], a[1], a[0], fCtrl, byte(fCnt), byte(fCnt>>8))
	b = append(b, fOpts...)
	if hasPort {
		b = append(b, fPort)
		start := len(b)
		b = append(b, payload...)
		m.crypto.crypt(fPort, a, fCnt, b[start:])
	}
	return m.crypto.appendMIC(a, fCnt, b)
}
