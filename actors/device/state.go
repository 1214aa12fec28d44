package device

import (
	"encoding/binary"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"lorikeet/messages"
	"lorikeet/messages/record"
)

// State is all that is durable about a device. Decide never changes a State it was given: slices and pointers are replaced, not written to.
type State struct {
	Incarnation   string
	SessionSeq    uint32
	Session       *Session
	Pending       *Session
	Queue         []messages.Downlink
	InFlight      *InFlight
	HasDevNonce   bool
	LastDevNonce  uint16
	UsedDevNonces []byte // sorted, two bytes each, big-endian
	LastJoinNonce uint32
	LastSeenAt    time.Time
	ActivatedAt   time.Time
	Hears         []GatewayHabit
	Battery       *Battery
	Location      *messages.Location // the newest that a decoded payload told
}

// Session is an activation of the device. A session that was set in parts (NS and AS views) may lack a key; then it takes no uplinks.
type Session struct {
	Seq              uint32
	KeyID            []byte
	DevAddr          messages.DevAddr
	NwkSKey, AppSKey messages.Key
	HasFCntUp        bool
	LastFCntUp       uint32
	LastMIC          [4]byte
	Repeats          uint32 // answered repetitions of the last confirmed uplink
	NextFCntDown     uint32
	FCntDownSpent    bool
	RX1Delay         uint8 // s
	RX1DROffset      uint8
	RX2DR            uint8
	RX2Frequency     uint32
	StartedAt        time.Time
	RecentFCntUp     []uint32 // the newest 20, for the packet error rate
	ChannelMaskTries uint32
	ChannelMaskDone  bool
	Resets           uint32
	FCnt16           bool // as the profile says, kept so that the directory is built from session records alone
	ResetsFCnt       bool
}

// InFlight is the transmission that is not settled: given to a radio gateway, or sent and to be acknowledged by the device.
type InFlight struct {
	ItemID     string // "" for an answer without an item
	SessionSeq uint32
	FCnt       uint32
	Sent       bool
}

// GatewayHabit says how often a radio gateway hears the device, 0 to 255.
type GatewayHabit struct {
	EUI   messages.EUI64
	Score uint8
}

// Battery is the last DevStatusAns (LoRaWAN 1.0.4 §5.5).
type Battery struct {
	FCnt       uint32
	Value      uint8
	Margin     int8
	ReceivedAt time.Time
}

// Marshal gives the session record.
func (s State) Marshal() ([]byte, error) {
	r := &record.SessionRecord{
		Incarnation: s.Incarnation, SessionSeq: s.SessionSeq, Session: s.Session.record(), PendingSession: s.Pending.record(),
		HasDevNonce: s.HasDevNonce, LastDevNonce: uint32(s.LastDevNonce), UsedDevNonces: s.UsedDevNonces, LastJoinNonce: s.LastJoinNonce,
		LastSeenAt: unixNano(s.LastSeenAt), ActivatedAt: unixNano(s.ActivatedAt),
	}
	for _, d := range s.Queue {
		r.Queue = append(r.Queue, queued(&d))
	}
	if f := s.InFlight; f != nil {
		r.InFlight = &record.InFlight{ItemId: f.ItemID, SessionSeq: f.SessionSeq, FCnt: f.FCnt, Sent: f.Sent}
	}
	for _, h := range s.Hears {
		r.Hears = append(r.Hears, &record.GatewayHabit{Eui: binary.BigEndian.Uint64(h.EUI[:]), Score: uint32(h.Score)})
	}
	if b := s.Battery; b != nil {
		r.Battery = &record.Battery{FCnt: b.FCnt, Value: uint32(b.Value), Margin: int32(b.Margin), ReceivedAt: unixNano(b.ReceivedAt)}
	}
	if l := s.Location; l != nil {
		r.PayloadLocation = &record.Location{Latitude: l.Latitude, Longitude: l.Longitude, Altitude: l.Altitude, Accuracy: l.Accuracy, Source: l.Source}
	}
	return proto.Marshal(r)
}

func queued(d *messages.Downlink) *record.QueuedDownlink {
	q := &record.QueuedDownlink{
		Id: d.ID, FPort: uint32(d.FPort), FrmPayload: d.FRMPayload, DecodedPayload: d.DecodedPayload, DecodedWarnings: d.DecodedWarnings,
		Confirmed: d.Confirmed, Priority: uint32(d.Priority), ClassBC: d.ClassBC, CorrelationIds: d.CorrelationIDs,
		MaxAttempts: d.MaxAttempts, Attempt: d.Attempt, ExpiresAt: unixNano(d.ExpiresAt), Encrypted: d.Encrypted,
	}
	if d.Encrypted {
		q.FCnt, q.SessionKeyId = d.FCnt, d.SessionKeyID
	}
	return q
}

// Unmarshal reads a session record. nil gives the zero State.
func Unmarshal(b []byte) (State, error) {
	var r record.SessionRecord
	if err := proto.Unmarshal(b, &r); err != nil {
		return State{}, fmt.Errorf("session record: %w", err)
	}
	s := State{
		Incarnation: r.Incarnation, SessionSeq: r.SessionSeq, HasDevNonce: r.HasDevNonce, LastDevNonce: uint16(r.LastDevNonce),
		UsedDevNonces: r.UsedDevNonces, LastJoinNonce: r.LastJoinNonce, LastSeenAt: fromUnixNano(r.LastSeenAt), ActivatedAt: fromUnixNano(r.ActivatedAt),
	}
	var err error
	if s.Session, err = sessionOf(r.Session); err != nil {
		return State{}, err
	}
	if s.Pending, err = sessionOf(r.PendingSession); err != nil {
		return State{}, err
	}
	for _, q := range r.Queue {
		s.Queue = append(s.Queue, messages.Downlink{
			ID: q.Id, FPort: uint8(q.FPort), FRMPayload: q.FrmPayload, DecodedPayload: nonEmpty(q.DecodedPayload), DecodedWarnings: q.DecodedWarnings,
			Confirmed: q.Confirmed, Priority: messages.Priority(q.Priority), ClassBC: nonEmpty(q.ClassBC), CorrelationIDs: q.CorrelationIds,
			MaxAttempts: q.MaxAttempts, Attempt: q.Attempt, ExpiresAt: fromUnixNano(q.ExpiresAt), Encrypted: q.Encrypted, FCnt: q.FCnt,
			SessionKeyID: nonEmpty(q.SessionKeyId),
		})
	}
	if f := r.InFlight; f != nil {
		s.InFlight = &InFlight{ItemID: f.ItemId, SessionSeq: f.SessionSeq, FCnt: f.FCnt, Sent: f.Sent}
	}
	for _, h := range r.Hears {
		g := GatewayHabit{Score: uint8(h.Score)}
		binary.BigEndian.PutUint64(g.EUI[:], h.Eui)
		s.Hears = append(s.Hears, g)
	}
	if b := r.Battery; b != nil {
		s.Battery = &Battery{FCnt: b.FCnt, Value: uint8(b.Value), Margin: int8(b.Margin), ReceivedAt: fromUnixNano(b.ReceivedAt)}
	}
	if l := r.PayloadLocation; l != nil {
		s.Location = &messages.Location{Latitude: l.Latitude, Longitude: l.Longitude, Altitude: l.Altitude, Accuracy: l.Accuracy, Source: l.Source}
	}
	return s, nil
}

func (s *Session) record() *record.Session {
	if s == nil {
		return nil
	}
	return &record.Session{
		Seq: s.Seq, SessionKeyId: s.KeyID, DevAddr: s.DevAddr[:], NwkSKey: s.NwkSKey[:], AppSKey: s.AppSKey[:], HasFCntUp: s.HasFCntUp,
		LastFCntUp: s.LastFCntUp, LastMic: s.LastMIC[:], Repeats: s.Repeats, NextFCntDown: s.NextFCntDown, FCntDownSpent: s.FCntDownSpent,
		Rx1Delay: uint32(s.RX1Delay), Rx1DrOffset: uint32(s.RX1DROffset), Rx2Dr: uint32(s.RX2DR), Rx2Frequency: s.RX2Frequency,
		StartedAt: unixNano(s.StartedAt), RecentFCntUp: s.RecentFCntUp, ChannelMaskTries: s.ChannelMaskTries, ChannelMaskDone: s.ChannelMaskDone,
		Resets: s.Resets, FCnt_16: s.FCnt16, ResetsFCnt: s.ResetsFCnt,
	}
}

func sessionOf(r *record.Session) (*Session, error) {
	if r == nil {
		return nil, nil
	}
	s := &Session{
		Seq: r.Seq, KeyID: r.SessionKeyId, HasFCntUp: r.HasFCntUp, LastFCntUp: r.LastFCntUp, Repeats: r.Repeats, NextFCntDown: r.NextFCntDown,
		FCntDownSpent: r.FCntDownSpent, RX1Delay: uint8(r.Rx1Delay), RX1DROffset: uint8(r.Rx1DrOffset), RX2DR: uint8(r.Rx2Dr),
		RX2Frequency: r.Rx2Frequency, StartedAt: fromUnixNano(r.StartedAt), RecentFCntUp: r.RecentFCntUp, ChannelMaskTries: r.ChannelMaskTries,
		ChannelMaskDone: r.ChannelMaskDone, Resets: r.Resets,
		FCnt16: r.FCnt_16, ResetsFCnt: r.ResetsFCnt,
	}
	for _, f := range []struct{ dst, src []byte }{{s.DevAddr[:], r.DevAddr}, {s.NwkSKey[:], r.NwkSKey}, {s.AppSKey[:], r.AppSKey}, {s.LastMIC[:], r.LastMic}} {
		if len(f.src) != len(f.dst) {
			return nil, fmt.Errorf("session record: a field has %d bytes, want %d", len(f.src), len(f.dst))
		}
		copy(f.dst, f.src)
	}
	return s, nil
}

func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromUnixNano(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

func nonEmpty(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}
