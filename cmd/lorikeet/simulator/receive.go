package simulator

import (
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/brocaar/lorawan"

	"lorikeet/messages"
)

// window is what the device listens for after one transmission.
type window struct {
	sequence  uint64
	join      bool
	devNonce  uint16
	delay1    time.Duration
	frequency [2]uint32 // RX1, RX2
	dataRate  [2]string
	used      bool // a frame for this device was heard in it
}

// windowTolerance is by how much a downlink may miss its time (LoRaWAN 1.0.3 §3.3.1).
const windowTolerance = 20 * time.Microsecond

// Elapsed places a downlink after a transmission of the device, on the counter of the radio gateway that heard it.
type Elapsed struct {
	Sequence uint64
	Delay    time.Duration
}

// Reception is a downlink as the radio gateway has it.
type Reception struct {
	PHYPayload []byte
	Frequency  uint32 // Hz
	DataRate   string // as Semtech's "datr"
	After      []Elapsed
	Immediate  bool // sent without a time: only a class C device hears it
	Unsent     bool // the radio gateway refused it: it counts for the ledger only
}

// Downlink is a frame that the device accepted.
type Downlink struct {
	Join      bool
	DevAddr   messages.DevAddr
	FCnt      uint32
	FPort     uint8 // 0 if there is none
	Payload   []byte
	Confirmed bool
	Ack       bool
	FPending  bool
	Window    int    // 1 or 2; 0: class C
	Sequence  uint64 // of the transmission it answers; 0 for class C
	Commands  []lorawan.MACCommand
}

// Reason is why a device does not accept a downlink.
type Reason string

// The reasons. The two *Reused are faults of the server whatever became of the frame.
const (
	Malformed       Reason = "malformed"
	UnknownAddress  Reason = "unknown_dev_addr"
	WrongMIC        Reason = "wrong_mic"
	OutsideWindow   Reason = "outside_window"
	WrongFrequency  Reason = "wrong_frequency"
	WrongDataRate   Reason = "wrong_data_rate"
	FCntTooLow      Reason = "f_cnt_too_low"
	FCntGap         Reason = "f_cnt_gap"
	TooLong         Reason = "too_long"
	Repeated        Reason = "repeated" // the very same bytes again, which is allowed
	UnsentFrame     Reason = "unsent"   // refused by the radio gateway
	FCntDownReused  Reason = "f_cnt_down_reused"
	JoinNonceReused Reason = "join_nonce_reused"
)

// Rejection is the error for a downlink that is not accepted.
type Rejection struct {
	Reason Reason
	Detail string
}

func (r *Rejection) Error() string { return string(r.Reason) + ": " + r.Detail }

func reject(reason Reason, format string, args ...any) error {
	return &Rejection{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// ReasonOf gives the Reason of a *Rejection; empty for other errors.
func ReasonOf(err error) Reason {
	var r *Rejection
	if errors.As(err, &r) {
		return r.Reason
	}
	return ""
}

var ledgerSeed = maphash.MakeSeed()

// Receive takes a downlink as the device's radio would and gives what the device made of it, or a *Rejection. The checks are
// those of a device (MIC, counter, window, frequency, data rate) and of a judge: no FCntDown of a session and no JoinNonce
// may come twice with different content.
func (m *MAC) Receive(r Reception) (Downlink, error) {
	var phy lorawan.PHYPayload
	if err := phy.UnmarshalBinary(r.PHYPayload); err != nil {
		return Downlink{}, reject(Malformed, "%v", err)
	}
	switch phy.MHDR.MType {
	case lorawan.JoinAccept:
		return m.receiveJoinAccept(&phy, r)
	case lorawan.UnconfirmedDataDown, lorawan.ConfirmedDataDown:
		return m.receiveData(&phy, r)
	}
	return Downlink{}, reject(Malformed, "message type %d is not a downlink", phy.MHDR.MType)
}

func (m *MAC) receiveJoinAccept(phy *lorawan.PHYPayload, r Reception) (Downlink, error) {
	if err := phy.DecryptJoinAcceptPayload(lorawan.AES128Key(m.cfg.AppKey)); err != nil {
		return Downlink{}, reject(Malformed, "join-accept: %v", err)
	}
	ok, err := phy.ValidateDownlinkJoinMIC(lorawan.JoinRequestType, lorawan.EUI64(m.cfg.JoinEUI), 0, lorawan.AES128Key(m.cfg.AppKey))
	accept, isAccept := phy.MACPayload.(*lorawan.JoinAcceptPayload)
	if err != nil || !ok || !isAccept {
		return Downlink{}, reject(WrongMIC, "join-accept")
	}
	if accept.DLSettings.OptNeg {
		return Downlink{}, reject(Malformed, "join-accept of LoRaWAN 1.1 for a 1.0.x device")
	}
	w, n, windowErr := m.windowFor(r, true)
	if w == nil {
		return Downlink{}, windowErr
	}
	nonce := uint32(accept.JoinNonce)
	if devNonce, seen := m.joinNonces[nonce]; seen && devNonce != w.devNonce {
		return Downlink{}, reject(JoinNonceReused, "JoinNonce %d answers DevNonce %d and %d", nonce, devNonce, w.devNonce)
	}
	m.joinNonces[nonce] = w.devNonce
	switch {
	case r.Unsent:
		return Downlink{}, reject(UnsentFrame, "join-accept")
	case windowErr != nil:
		return Downlink{}, windowErr
	case w.used:
		return Downlink{}, reject(Repeated, "join-accept")
	}
	sequence, devNonce := w.sequence, w.devNonce
	m.reset()
	if err := m.applyJoinAccept(accept); err != nil {
		return Downlink{}, err
	}
	nwkSKey, appSKey := deriveKeys(m.cfg.AppKey, nonce, accept.HomeNetID, devNonce)
	m.start(Session{DevAddr: messages.DevAddr(accept.DevAddr), NwkSKey: nwkSKey, AppSKey: appSKey})
	m.state.FCntUp, m.state.FCntDown = 0, 0
	w.used = true
	return Downlink{Join: true, DevAddr: m.session.DevAddr, Window: n, Sequence: sequence}, nil
}

// applyJoinAccept takes over DLSettings, RxDelay and CFList (LoRaWAN 1.0.3 §6.2.5, RP002 CFList types 0 and 1).
func (m *MAC) applyJoinAccept(a *lorawan.JoinAcceptPayload) error {
	offset, rx2 := int(a.DLSettings.RX1DROffset), int(a.DLSettings.RX2DataRate)
	if offset > m.plan.maxDR1Offset || !m.plan.validDownlinkDR(rx2) {
		return reject(Malformed, "join-accept: RX1DROffset %d, RX2DataRate %d do not exist in %s", offset, rx2, m.cfg.Region)
	}
	m.dr1Offset, m.rx2DR = offset, rx2
	m.rxDelay1 = time.Duration(max(a.RXDelay, 1)) * time.Second
	if a.CFList == nil {
		return nil
	}
	switch list := a.CFList.Payload.(type) {
	case *lorawan.CFListChannelPayload:
		if m.plan.fixedChannels {
			return nil // type 0 is not for this region: ignored
		}
		for i, f := range list.Channels {
			if f != 0 && m.plan.validUplinkFrequency(f) {
				m.channels[3+i] = channel{frequency: f, maxDR: 5, enabled: true}
			}
		}
	case *lorawan.CFListChannelMaskPayload:
		for i := range m.channels {
			m.channels[i].enabled = i/16 < len(list.ChannelMasks) && list.ChannelMasks[i/16][i%16] && m.channels[i].frequency != 0
		}
	}
	return nil
}

func (m *MAC) receiveData(phy *lorawan.PHYPayload, r Reception) (Downlink, error) {
	p, ok := phy.MACPayload.(*lorawan.MACPayload)
	if !ok || !m.active || messages.DevAddr(p.FHDR.DevAddr) != m.session.DevAddr {
		return Downlink{}, reject(UnknownAddress, "not for this device")
	}
	fCnt, err := m.checkMIC(phy, p)
	if err != nil {
		return Downlink{}, err
	}
	hash := maphash.Bytes(ledgerSeed, r.PHYPayload)
	if h, seen := m.ledger[fCnt]; seen && h != hash {
		return Downlink{}, reject(FCntDownReused, "FCntDown %d of session %s came with two contents", fCnt, m.session.DevAddr)
	} else if seen {
		if _, again := m.accepted[fCnt]; again {
			return Downlink{}, reject(Repeated, "FCntDown %d", fCnt)
		}
	}
	m.ledger[fCnt] = hash
	if r.Unsent {
		return Downlink{}, reject(UnsentFrame, "FCntDown %d", fCnt)
	}
	w, n, err := m.windowFor(r, false)
	switch {
	case err != nil: // not heard: whatever its counter is, the device is none the worse
		return Downlink{}, err
	case fCnt < m.state.FCntDown:
		return Downlink{}, reject(FCntTooLow, "FCntDown %d after %d, %v after the transmissions", fCnt, m.state.FCntDown-1, r.After)
	case fCnt-m.state.FCntDown >= maxFCntGap:
		return Downlink{}, reject(FCntGap, "FCntDown %d, expected %d", fCnt, m.state.FCntDown)
	}
	if size, limit := len(r.PHYPayload)-13, m.limitFor(r.DataRate); size > limit { // MHDR, FHDR, FPort, MIC
		return Downlink{}, reject(TooLong, "%d bytes at %s, which takes %d", size, r.DataRate, limit)
	}
	d := Downlink{DevAddr: m.session.DevAddr, FCnt: fCnt, Window: n, Confirmed: phy.MHDR.MType == lorawan.ConfirmedDataDown,
		Ack: p.FHDR.FCtrl.ACK, FPending: p.FHDR.FCtrl.FPending}
	if d.FPort, d.Payload, d.Commands, err = m.open(phy, p); err != nil {
		return Downlink{}, err
	}
	if w != nil {
		w.used, d.Sequence = true, w.sequence
	}
	m.accept(d)
	return d, nil
}

// checkMIC finds the 32 bit FCntDown that the MIC was made with.
func (m *MAC) checkMIC(phy *lorawan.PHYPayload, p *lorawan.MACPayload) (uint32, error) {
	candidate := m.state.FCntDown&^0xFFFF | p.FHDR.FCnt&0xFFFF
	if candidate < m.state.FCntDown {
		candidate += 0x10000
	}
	for _, c := range [2]uint32{candidate, candidate - 0x10000} { // the second: a counter that was passed already
		p.FHDR.FCnt = c
		if ok, err := phy.ValidateDownlinkDataMIC(lorawan.LoRaWAN1_0, 0, lorawan.AES128Key(m.session.NwkSKey)); err == nil && ok {
			return c, nil
		}
	}
	return 0, reject(WrongMIC, "data downlink to %s", m.session.DevAddr)
}

// windowFor finds the open window that the downlink falls into. If only frequency or data rate are wrong it gives the window and
// the error. For class C it gives nil, 0 and no error. RX2 of one uplink may open at the time of RX1 of the next: either will do.
func (m *MAC) windowFor(r Reception, join bool) (w *window, n int, err error) {
	for _, e := range r.After {
		for i := range m.windows {
			open := &m.windows[i]
			if open.sequence != e.Sequence || open.join != join {
				continue
			}
			for k := range 2 {
				off := e.Delay - open.delay1 - time.Duration(k)*rx2AfterRX1
				if off.Abs() > windowTolerance {
					continue
				}
				misfit := open.misfit(r, k)
				if misfit == nil {
					return open, k + 1, nil
				}
				if w == nil {
					w, n, err = open, k+1, misfit
				}
			}
		}
	}
	if w != nil {
		return w, n, err
	}
	if m.cfg.ClassC && !join && m.active && r.Frequency == m.rx2Freq && r.DataRate == m.plan.dataRates[m.rx2DR] {
		return nil, 0, nil
	}
	return nil, 0, reject(OutsideWindow, "%v", r.After)
}

// misfit says why RX1 (k is 0) or RX2 (1) does not take a downlink that comes at its time; nil if it does.
func (w *window) misfit(r Reception, k int) error {
	switch {
	case r.Frequency != w.frequency[k]:
		return reject(WrongFrequency, "RX%d at %d Hz, listening at %d Hz", k+1, r.Frequency, w.frequency[k])
	case r.DataRate != w.dataRate[k]:
		return reject(WrongDataRate, "RX%d with %s, listening for %s", k+1, r.DataRate, w.dataRate[k])
	case w.used && !w.join:
		return reject(OutsideWindow, "RX%d after the device was answered already", k+1)
	}
	return nil
}

func (m *MAC) limitFor(dataRate string) int {
	for i, name := range m.plan.dataRates {
		if i >= m.plan.firstDownDR && name == dataRate {
			return m.plan.maxPayload[i]
		}
	}
	return 0
}

// open decrypts the FRMPayload and decodes the MAC commands.
func (m *MAC) open(phy *lorawan.PHYPayload, p *lorawan.MACPayload) (fPort uint8, payload []byte, commands []lorawan.MACCommand, err error) {
	var mac []byte
	for _, o := range p.FHDR.FOpts {
		if b, ok := o.(*lorawan.DataPayload); ok {
			mac = append(mac, b.Bytes...)
		}
	}
	if p.FPort != nil {
		fPort = *p.FPort
		key := m.session.AppSKey
		if fPort == 0 {
			key = m.session.NwkSKey
		}
		for _, f := range p.FRMPayload {
			b, ok := f.(*lorawan.DataPayload)
			if !ok {
				continue
			}
			clear, err := lorawan.EncryptFRMPayload(lorawan.AES128Key(key), false, p.FHDR.DevAddr, p.FHDR.FCnt, append([]byte(nil), b.Bytes...))
			if err != nil {
				return 0, nil, nil, reject(Malformed, "FRMPayload: %v", err)
			}
			payload = append(payload, clear...)
		}
		if fPort == 0 {
			mac, payload = append(mac, payload...), nil
		}
	}
	return fPort, payload, parseCommands(mac), nil
}

// accept takes over what a valid downlink brings.
func (m *MAC) accept(d Downlink) {
	m.accepted[d.FCnt] = struct{}{}
	m.state.FCntDown = d.FCnt + 1
	m.adrAckCnt = 0
	m.sticky = m.sticky[:0]
	m.ackDue = m.ackDue || d.Confirmed
	if d.Ack {
		m.waitsAck = false
	}
	if !m.waitsAck && d.Window > 0 {
		m.repeatsLeft = 0
	}
	m.handle(d.Commands)
}
