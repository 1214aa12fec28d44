package actors

import (
	"lorikeet/actors/device"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

func (d *Device) show() v3.EndDevice {
	s := d.state
	out := v3.EndDevice{
		Session: showSession(s.Session), PendingSession: showSession(s.Pending), LastJoinNonce: v3.Uint32(s.LastJoinNonce),
		LastDevNonce: v3.Uint32(s.LastDevNonce), LastSeenAt: optionalTime(s.LastSeenAt), ActivatedAt: optionalTime(s.ActivatedAt),
	}
	for i := 0; i+1 < len(s.UsedDevNonces); i += 2 {
		out.UsedDevNonces = append(out.UsedDevNonces, v3.Uint32(s.UsedDevNonces[i])<<8|v3.Uint32(s.UsedDevNonces[i+1]))
	}
	if out.Session != nil {
		for _, item := range d.queue() {
			out.Session.Queue = append(out.Session.Queue, v3.FromDownlink(item))
		}
	}
	return out
}

func showSession(s *device.Session) *v3.Session {
	if s == nil {
		return nil
	}
	out := &v3.Session{DevAddr: &s.DevAddr, LastFCntUp: v3.Uint32(s.LastFCntUp), StartedAt: optionalTime(s.StartedAt)}
	if s.NextFCntDown > 0 {
		out.LastNFCntDown, out.LastAFCntDown = v3.Uint32(s.NextFCntDown-1), v3.Uint32(s.NextFCntDown-1)
	}
	out.Keys.SessionKeyID = s.KeyID
	envelope := func(k messages.Key) *v3.KeyEnvelope {
		if k.IsZero() {
			return nil
		}
		return &v3.KeyEnvelope{Key: (*v3.HexKey)(&k)}
	}
	out.Keys.FNwkSIntKey, out.Keys.AppSKey = envelope(s.NwkSKey), envelope(s.AppSKey)
	return out
}
