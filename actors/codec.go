package actors

import (
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"lorikeet/actors/device"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
	"lorikeet/messages/wire"
)

// Codec gives messages to device actors the form in which they cross from one node to another. The kind says what a body is; an older node answers
// a kind that it does not know with an error.
type Codec struct{}

// The kinds of messages to device actors.
const (
	kindFrame        = "frame"
	kindTransmission = "transmission"
	kindReload       = "reload"
	kindPush         = "push"
	kindFail         = "fail"
	kindCancel       = "cancel"
	kindSetSession   = "set_session"
	kindReset        = "reset"
	kindQueue        = "queue"
	kindState        = "state"
	kindSimulate     = "simulate"
	kindDelete       = "delete"
	kindForget       = "forget"
	kindRestore      = "restore"
	kindHandOver     = "hand_over"
	kindKeepOn       = "keep_on"
	kindTakeOver     = "take_over"
)

// Encode gives kind and body of a message; an error if it is not for another node.
func (Codec) Encode(message any) (kind string, body []byte, err error) {
	var m proto.Message
	switch c := message.(type) {
	case *DeliverFrame:
		f := wireFrame(&c.Frame)
		f.Join = c.Join
		kind, m = kindFrame, f
	case transmission:
		kind, m = kindTransmission, &wire.TransmissionReport{SessionSeq: c.SessionSeq, FCnt: c.FCnt, Result: string(c.Err), Missed: c.Missed, Now: unixNano(c.Now), CorrelationIds: c.IDs}
	case device.PushDownlinks:
		var w *wire.Downlinks
		if w, err = wireDownlinks(c.Items, c.Replace, c.Now, c.IDs, c.Random, nil); err == nil {
			w.MoreItems, w.MoreBytes = uint32(c.MoreItems), uint64(c.MoreBytes)
		}
		kind, m = kindPush, w
	case device.CancelDownlinks:
		kind, m = kindCancel, &wire.CancelDownlinks{Ids: c.Items, Now: unixNano(c.Now), CorrelationIds: c.IDs, Random: c.Random}
	case device.FailDownlinks:
		kind = kindFail
		m, err = wireDownlinks(c.Items, false, c.Now, c.IDs, c.Random, c.Reason)
	case device.SetSession:
		kind, m = kindSetSession, &wire.SetSession{SessionKeyId: c.KeyID, DevAddr: c.DevAddr[:], NwkSKey: keyBytes(c.NwkSKey), AppSKey: keyBytes(c.AppSKey),
			LastFCntUp: c.LastFCntUp, HasFCntUp: c.HasFCntUp, LastFCntDown: c.LastFCntDown, Now: unixNano(c.Now), Random: c.Random,
			CorrelationIds: c.IDs}
	case simulate:
		body, err = json.Marshal(c.up)
		return kindSimulate, body, err
	case device.Restore:
		body, err = encodeRestore(c)
		return kindRestore, body, err
	case handOver:
		return kindHandOver, []byte(c.to.UID()), nil
	default:
		for kind, bare := range bareMessages {
			if bare == message {
				return kind, nil, nil
			}
		}
		return "", nil, messages.Errorf(messages.CodeInternal, "unknown_command", "%T is not for another node", message)
	}
	if err != nil {
		return "", nil, err
	}
	body, err = proto.Marshal(m)
	return kind, body, err
}

// bareMessages have no body.
var bareMessages = map[string]any{
	kindReload: reloadProfile{}, kindReset: device.Reset{}, kindQueue: readQueue{}, kindState: readState{}, kindDelete: deleteState{}, kindForget: forgetState{},
	kindKeepOn: keepOn{}, kindTakeOver: takeOver{},
}

// Decode is the inverse of Encode.
func (Codec) Decode(kind string, body []byte) (any, error) {
	switch kind {
	case kindFrame:
		f, err := parse(body, &wire.Frame{})
		if err != nil {
			return nil, err
		}
		if len(f.Rx) == 0 {
			return nil, messages.Invalid("malformed_message", "a frame without a reception came from another node")
		}
		return &DeliverFrame{Frame: frameOf(f), Join: f.Join}, nil
	case kindTransmission:
		r, err := parse(body, &wire.TransmissionReport{})
		if err != nil {
			return nil, err
		}
		return transmission{device.ReportTransmission{SessionSeq: r.SessionSeq, FCnt: r.FCnt, Err: messages.TxError(r.Result), Missed: r.Missed, Now: timeOf(r.Now), IDs: r.CorrelationIds}}, nil
	case kindCancel:
		c, err := parse(body, &wire.CancelDownlinks{})
		if err != nil {
			return nil, err
		}
		return device.CancelDownlinks{Items: c.Ids, Now: timeOf(c.Now), IDs: c.CorrelationIds, Random: c.Random}, nil
	case kindPush, kindFail:
		return decodeDownlinks(kind, body)
	case kindSetSession:
		s, err := parse(body, &wire.SetSession{})
		if err != nil {
			return nil, err
		}
		out := device.SetSession{KeyID: s.SessionKeyId, LastFCntUp: s.LastFCntUp, HasFCntUp: s.HasFCntUp, LastFCntDown: s.LastFCntDown, Now: timeOf(s.Now), Random: s.Random,
			IDs: s.CorrelationIds}
		copy(out.DevAddr[:], s.DevAddr)
		copy(out.NwkSKey[:], s.NwkSKey)
		copy(out.AppSKey[:], s.AppSKey)
		return out, nil
	case kindSimulate:
		var up v3.ApplicationUp
		if err := json.Unmarshal(body, &up); err != nil {
			return nil, malformed(err)
		}
		return simulate{up}, nil
	case kindRestore:
		return decodeRestore(body)
	case kindHandOver:
		to, err := messages.ParseUID(string(body))
		if err != nil {
			return nil, malformed(err)
		}
		return handOver{to}, nil
	}
	if m, ok := bareMessages[kind]; ok {
		return m, nil
	}
	return nil, messages.Errorf(messages.CodeUnavailable, "unknown_message", "this node does not know messages of kind %.40q: update all nodes to one version", kind)
}

// Repeatable says whether a command may be sent again when it is not known whether it arrived.
func (Codec) Repeatable(kind string) bool { return kind != kindSimulate }

// EncodeAnswer gives the form of what a device actor answered to a message of the kind.
func (Codec) EncodeAnswer(kind string, value any) ([]byte, error) {
	switch kind {
	case kindQueue:
		items, ok := value.([]messages.Downlink)
		if !ok {
			return nil, fmt.Errorf("answer to %s is a %T", kind, value)
		}
		m, err := wireDownlinks(items, false, time.Time{}, nil, "", nil)
		if err != nil {
			return nil, err
		}
		return proto.Marshal(m)
	case kindCancel:
		return encodeRefused(value)
	case kindState:
		return json.Marshal(value)
	}
	return nil, nil // that it was done is all there is to say
}

// DecodeAnswer is the inverse of EncodeAnswer.
func (Codec) DecodeAnswer(kind string, body []byte) (any, error) {
	switch kind {
	case kindQueue:
		m, err := parse(body, &wire.Downlinks{})
		if err != nil {
			return nil, err
		}
		return downlinksOf(m)
	case kindCancel:
		return decodeRefused(body)
	case kindState:
		var out v3.EndDevice
		if err := json.Unmarshal(body, &out); err != nil {
			return nil, malformed(err)
		}
		return out, nil
	}
	return nil, nil
}

func decodeDownlinks(kind string, body []byte) (any, error) {
	m, err := parse(body, &wire.Downlinks{})
	if err != nil {
		return nil, err
	}
	items, err := downlinksOf(m)
	if err != nil {
		return nil, err
	}
	if kind == kindPush {
		return device.PushDownlinks{Items: items, Replace: m.Replace, Now: timeOf(m.Now), IDs: m.CorrelationIds, Random: m.Random,
			MoreItems: int(m.MoreItems), MoreBytes: int(m.MoreBytes)}, nil
	}
	reason := messages.Errorf(messages.CodeInternal, "internal", "internal error")
	if r := m.Reason; r != nil {
		reason = errorOf(r)
	}
	return device.FailDownlinks{Items: items, Reason: reason, Now: timeOf(m.Now), IDs: m.CorrelationIds, Random: m.Random}, nil
}

func wireDownlinks(items []messages.Downlink, replace bool, now time.Time, ids []string, random string, reason *messages.Error) (*wire.Downlinks, error) {
	out := &wire.Downlinks{Replace: replace, Now: unixNano(now), CorrelationIds: ids, Random: random}
	if reason != nil {
		out.Reason = wireError(reason)
	}
	for i := range items {
		b, err := json.Marshal(&items[i])
		if err != nil {
			return nil, messages.Invalid("invalid_downlink", "downlink can't be written as JSON: %w", err)
		}
		out.Items = append(out.Items, b)
	}
	return out, nil
}

func downlinksOf(m *wire.Downlinks) ([]messages.Downlink, error) {
	out := make([]messages.Downlink, len(m.Items))
	for i, b := range m.Items {
		if err := json.Unmarshal(b, &out[i]); err != nil {
			return nil, malformed(err)
		}
	}
	return out, nil
}

func wireError(e *messages.Error) *wire.Error {
	return &wire.Error{Code: int32(e.Code), Name: e.Name, Message: e.Message}
}

func errorOf(e *wire.Error) *messages.Error {
	return &messages.Error{Code: messages.Code(e.GetCode()), Name: e.GetName(), Message: e.GetMessage()}
}

func encodeRefused(value any) ([]byte, error) {
	refused, ok := value.(map[string]*messages.Error)
	if !ok {
		return nil, fmt.Errorf("answer to %s is a %T", kindCancel, value)
	}
	out := &wire.CancelledDownlinks{}
	for id, reason := range refused {
		out.Ids, out.Reasons = append(out.Ids, id), append(out.Reasons, wireError(reason))
	}
	return proto.Marshal(out)
}

func decodeRefused(body []byte) (any, error) {
	m, err := parse(body, &wire.CancelledDownlinks{})
	if err != nil {
		return nil, err
	}
	if len(m.Ids) != len(m.Reasons) {
		return nil, malformed(fmt.Errorf("%d ids with %d reasons", len(m.Ids), len(m.Reasons)))
	}
	refused := make(map[string]*messages.Error, len(m.Ids))
	for i, id := range m.Ids {
		refused[id] = errorOf(m.Reasons[i])
	}
	return refused, nil
}

func parse[M proto.Message](body []byte, m M) (M, error) {
	if err := proto.Unmarshal(body, m); err != nil {
		return m, malformed(err)
	}
	return m, nil
}

func malformed(err error) error {
	return messages.Invalid("malformed_message", "a message of another node can't be read: %w", err)
}

func keyBytes(k messages.Key) []byte {
	if k.IsZero() {
		return nil
	}
	return k[:]
}

// unixNano and timeOf keep the zero time.
func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func timeOf(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}
