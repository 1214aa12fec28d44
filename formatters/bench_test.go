package formatters_test

import (
	"context"
	"testing"
	"time"

	"lorikeet/formatters"
	"lorikeet/formatters/javascript"
	"lorikeet/messages"
)

// typicalCodec is of the size and kind that vendors publish: a walk over channel, type, value.
const typicalCodec = `
function signed(n, bits) { return n >= 1 << bits - 1 ? n - (1 << bits) : n; }
function u16(bytes, i) { return bytes[i] << 8 | bytes[i + 1]; }
function decodeUplink(input) {
	var bytes = input.bytes, data = {}, warnings = [];
	for (var i = 0; i < bytes.length;) {
		var channel = bytes[i++], type = bytes[i++];
		switch (type) {
		case 0x67: data['temperature_' + channel] = signed(u16(bytes, i), 16) / 10; i += 2; break;
		case 0x68: data['humidity_' + channel] = bytes[i++] / 2; break;
		case 0x73: data['pressure_' + channel] = u16(bytes, i) / 10; i += 2; break;
		case 0x02: data['analog_' + channel] = signed(u16(bytes, i), 16) / 100; i += 2; break;
		case 0x75: data.battery = bytes[i++]; break;
		default: warnings.push('unknown type ' + type); i = bytes.length;
		}
	}
	data.battery_low = data.battery < 20;
	data.received = input.recvTime.toISOString();
	return {data: data, warnings: warnings};
}`

var typicalUplink = messages.DecodeInput{
	Bytes: []byte{1, 0x67, 0, 0xd7, 2, 0x68, 0x5a, 3, 0x73, 0x27, 0x8f, 4, 0x02, 0x01, 0x4a, 5, 0x67, 0xff, 0xd7, 6, 0x75, 80, 7, 0x68, 0x40},
	FPort: 85, RecvTime: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC),
}

func open(tb testing.TB, cfg formatters.Config) *formatters.Set {
	tb.Helper()
	s, err := formatters.Open(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// BenchmarkDecodeUplink tells what a decoded uplink costs.
func BenchmarkDecodeUplink(b *testing.B) {
	ctx := context.Background()
	script := messages.Formatter{Kind: messages.FormatterJavaScript, Parameter: typicalCodec}
	b.Run("JavaScriptInProcess", func(b *testing.B) {
		p, err := javascript.Compile(typicalCodec)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, err := p.DecodeUplink(ctx, typicalUplink); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("JavaScriptInWorker", func(b *testing.B) {
		s := open(b, formatters.Config{})
		for b.Loop() {
			if _, err := s.DecodeUplink(ctx, script, typicalUplink); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("JavaScriptInWorkersParallel", func(b *testing.B) {
		s := open(b, formatters.Config{})
		b.SetParallelism(16)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := s.DecodeUplink(ctx, script, typicalUplink); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
	b.Run("CayenneLPP", func(b *testing.B) {
		s := open(b, formatters.Config{})
		lpp := messages.Formatter{Kind: messages.FormatterCayenneLPP}
		in := messages.DecodeInput{Bytes: []byte{1, 0x67, 0, 0xd7, 2, 0x68, 0x5a, 3, 0x73, 0x27, 0x8f}, FPort: 1}
		for b.Loop() {
			if _, err := s.DecodeUplink(ctx, lpp, in); err != nil {
				b.Fatal(err)
			}
		}
	})
}
