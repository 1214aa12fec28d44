package actors

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"lorikeet/actors/device"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// retire ends an actor that has nothing under way, after work on many devices at once: they would all stay in memory until they have been idle.
type retire struct{}

// StoredState gives what is durable about a device, without waking it; false if there is nothing. Only the members that an actor owns are set.
func (d *Devices) StoredState(ctx context.Context, id messages.DeviceID) (v3.Transfer, bool, error) {
	b, _, err := d.cfg.Store.LoadSession(ctx, id)
	if err != nil || b == nil {
		return v3.Transfer{}, false, err
	}
	s, err := device.Unmarshal(b)
	if err != nil {
		return v3.Transfer{}, false, fmt.Errorf("read session of %s: %w", id, err)
	}
	out := v3.Transfer{MACState: macState(s.Session), PendingMACState: macState(s.Pending)}
	out.Session, out.PendingSession = showSession(s.Session), showSession(s.Pending)
	out.LastJoinNonce, out.LastDevNonce = v3.Uint32(s.LastJoinNonce), v3.Uint32(s.LastDevNonce)
	out.LastSeenAt, out.ActivatedAt = optionalTime(s.LastSeenAt), optionalTime(s.ActivatedAt)
	for i := 0; i+1 < len(s.UsedDevNonces); i += 2 {
		out.UsedDevNonces = append(out.UsedDevNonces, v3.Uint32(binary.BigEndian.Uint16(s.UsedDevNonces[i:])))
	}
	if out.Session != nil {
		for _, item := range s.Queue {
			out.Session.Queue = append(out.Session.Queue, v3.FromDownlink(item))
		}
	}
	return out, true, nil
}

func macState(s *device.Session) *v3.MACState {
	if s == nil {
		return nil
	}
	name := func(prefix string, n uint8) json.RawMessage {
		return json.RawMessage(strconv.Quote(prefix + strconv.Itoa(int(n))))
	}
	return &v3.MACState{
		CurrentParameters: v3.MACParameters{
			RX1Delay: name("RX_DELAY_", s.RX1Delay), RX1DataRateOffset: name("DATA_RATE_OFFSET_", s.RX1DROffset),
			RX2DataRateIndex: name("DATA_RATE_", s.RX2DR), RX2Frequency: v3.Uint64(s.RX2Frequency),
		},
		FCntUpUsed: s.HasFCntUp, ChannelMaskDone: s.ChannelMaskDone,
	}
}

// RestoreDevice takes over the state that a device had on another server; its settings must be in the registry. No counter goes back: of what both
// know, whichever is further on stays, and the downlink counters of a session that is new here begin fCntDownStep further.
func (d *Devices) RestoreDevice(ctx context.Context, id messages.DeviceID, t v3.Transfer, fCntDownStep uint32) error {
	state, err := stateOf(&t)
	if err != nil {
		return err
	}
	now := d.cfg.Clock()
	for i := range state.Queue {
		if state.Queue[i].ID == "" {
			state.Queue[i].ID = d.cfg.Random.ULID(now)
		}
	}
	_, err = d.router.Ask(ctx, id, device.Restore{From: state, FCntDownStep: fCntDownStep, Now: now, Random: d.cfg.Random.ULID(now)})
	d.router.TellAwake(id.ApplicationID, id.DeviceID, retire{})
	return err
}

// stateOf is the inverse of StoredState.
func stateOf(t *v3.Transfer) (device.State, error) {
	s := device.State{LastJoinNonce: uint32(t.LastJoinNonce), HasDevNonce: t.LastDevNonce != 0 || len(t.UsedDevNonces) > 0 || t.LastJoinNonce != 0}
	var nonces []uint16
	for _, n := range t.UsedDevNonces {
		if n > 1<<16-1 {
			return s, messages.Invalid("invalid_dev_nonce", "used_dev_nonces has %d: a DevNonce has 16 bits", n)
		}
		nonces = append(nonces, uint16(n))
	}
	if t.LastDevNonce > 1<<16-1 || t.LastJoinNonce > 1<<24-1 {
		return s, messages.Invalid("invalid_nonce", "last_dev_nonce has 16 bits and last_join_nonce has 24")
	}
	slices.Sort(nonces)
	for _, n := range slices.Compact(nonces) {
		s.UsedDevNonces = binary.BigEndian.AppendUint16(s.UsedDevNonces, n)
	}
	s.LastDevNonce = uint16(t.LastDevNonce)
	s.LastSeenAt, s.ActivatedAt = timeOrZero(t.LastSeenAt), timeOrZero(t.ActivatedAt)
	s.Session, s.Pending = sessionOf(t.Session, t.MACState), sessionOf(t.PendingSession, t.PendingMACState)
	if t.Session == nil {
		return s, nil
	}
	for i, item := range t.Session.Queue {
		m, err := item.Message()
		if err != nil {
			return s, messages.Invalid("validate_body", "session.queued_application_downlinks[%d]: %w", i, err)
		}
		if m.ID = item.ID; item.ConfirmedRetry != nil {
			m.Attempt = uint32(item.ConfirmedRetry.Attempt)
		}
		s.Queue = append(s.Queue, m)
	}
	return s, nil
}

// sessionOf reads a session. "last 0" may mean that counter 0 was used or that none was: skipping it costs nothing, using it twice would.
func sessionOf(from *v3.Session, mac *v3.MACState) *device.Session {
	if from == nil {
		return nil
	}
	last := max(uint32(from.LastNFCntDown), uint32(from.LastAFCntDown))
	s := &device.Session{
		KeyID: from.Keys.SessionKeyID, NwkSKey: keyOf(from.Keys.FNwkSIntKey), AppSKey: keyOf(from.Keys.AppSKey), HasFCntUp: from.LastFCntUp > 0,
		LastFCntUp: uint32(from.LastFCntUp), NextFCntDown: last + 1, StartedAt: timeOrZero(from.StartedAt),
	}
	if last+1 == 0 {
		s.NextFCntDown, s.FCntDownSpent = last, true
	}
	if from.DevAddr != nil {
		s.DevAddr = *from.DevAddr
	}
	if mac != nil {
		s.HasFCntUp = s.HasFCntUp || mac.FCntUpUsed
		s.ChannelMaskDone = mac.ChannelMaskDone
		if delay, offset, rate, frequency, ok := mac.CurrentParameters.Windows(); ok {
			s.RX1Delay, s.RX1DROffset, s.RX2DR, s.RX2Frequency = delay, offset, rate, frequency
		}
	}
	return s
}

func timeOrZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// restoreBody is how a restore crosses from one node to another.
type restoreBody struct {
	State  []byte    `json:"state"` // a session record
	Step   uint32    `json:"step"`
	Now    time.Time `json:"now"`
	Random string    `json:"random"`
}

func encodeRestore(c device.Restore) ([]byte, error) {
	state, err := c.From.Marshal()
	if err != nil {
		return nil, err
	}
	return json.Marshal(restoreBody{state, c.FCntDownStep, c.Now, c.Random})
}

func decodeRestore(body []byte) (any, error) {
	var b restoreBody
	if err := json.Unmarshal(body, &b); err != nil {
		return nil, malformed(err)
	}
	state, err := device.Unmarshal(b.State)
	if err != nil {
		return nil, malformed(err)
	}
	return device.Restore{From: state, FCntDownStep: b.Step, Now: b.Now, Random: b.Random}, nil
}
