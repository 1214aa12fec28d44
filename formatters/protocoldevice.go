package formatters

import (
	"encoding/binary"
	"math"
	"time"

	"lorikeet/messages"
)

// appendTime keeps the zero time, which has no Unix time in nanoseconds.
func appendTime(b []byte, t time.Time) []byte {
	if b = append(b, flag(!t.IsZero())); t.IsZero() {
		return b
	}
	return binary.AppendVarint(b, t.UnixNano())
}

func (p *parser) time() time.Time {
	if p.byte() == 0 {
		return time.Time{}
	}
	return time.Unix(0, p.varint()).UTC()
}

func appendRadio(b []byte, in *messages.DecodeInput) []byte {
	return appendFloat(appendFloat(binary.AppendUvarint(b, uint64(in.FCnt)), in.RSSI), in.SNR)
}

func (p *parser) radio(in *messages.DecodeInput) {
	in.FCnt, in.RSSI, in.SNR = uint32(p.uvarint()), p.float(), p.float()
}

func appendFloat(b []byte, v *float32) []byte {
	if b = append(b, flag(v != nil)); v == nil {
		return b
	}
	return binary.BigEndian.AppendUint32(b, math.Float32bits(*v))
}

func (p *parser) float() *float32 {
	if p.byte() == 0 {
		return nil
	}
	b := p.take(4)
	if b == nil {
		return nil
	}
	v := math.Float32frombits(binary.BigEndian.Uint32(b))
	return &v
}

func appendDevice(b []byte, d *messages.FormatterDevice) []byte {
	b = append(appendText(appendText(b, d.Device.ApplicationID), d.Device.DeviceID), d.DevEUI[:]...)
	b = binary.AppendUvarint(b, uint64(len(d.Attributes)))
	for name, value := range d.Attributes {
		b = appendText(appendText(b, name), value)
	}
	if b = append(b, flag(d.VersionIDs != nil)); d.VersionIDs == nil {
		return b
	}
	for _, text := range versionTexts(d.VersionIDs) {
		b = appendText(b, *text)
	}
	return b
}

func (p *parser) device() (d messages.FormatterDevice) {
	d.Device.ApplicationID, d.Device.DeviceID = string(p.bytes()), string(p.bytes())
	copy(d.DevEUI[:], p.take(len(d.DevEUI)))
	if n := p.count(); n > 0 {
		d.Attributes = make(map[string]string, n)
		for range n {
			name := string(p.bytes())
			d.Attributes[name] = string(p.bytes())
		}
	}
	if p.byte() == 0 {
		return d
	}
	d.VersionIDs = &messages.VersionIDs{}
	for _, text := range versionTexts(d.VersionIDs) {
		*text = string(p.bytes())
	}
	return d
}

func versionTexts(v *messages.VersionIDs) []*string {
	return []*string{&v.BrandID, &v.ModelID, &v.HardwareVersion, &v.FirmwareVersion, &v.BandID}
}

// take gives the next n bytes; nil if there are fewer.
func (p *parser) take(n int) []byte {
	if len(p.rest) < n {
		p.bad, p.rest = true, nil
		return nil
	}
	b := p.rest[:n]
	p.rest = p.rest[n:]
	return b
}
