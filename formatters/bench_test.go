package formatters_test

import (
	"syscall"
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

// processorTime that this process and its ended children have used.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var sum time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var r syscall.Rusage
		if err := syscall.Getrusage(who, &r); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	return sum
}

// BenchmarkDecodeUplink tells what a decoded uplink costs: cpu-ns/op counts server and workers, whatever else the machine does.
func BenchmarkDecodeUplink(b *testing.B) {
	script := messages.Formatter{Kind: messages.FormatterJavaScript, Parameter: typicalCodec}
	b.Run("JavaScript/InProcess", func(b *testing.B) {
		p, err := javascript.Compile(typicalCodec)
		if err != nil {
			b.Fatal(err)
		}
		start := processorTime(b)
		for b.Loop() {
			if _, err := p.DecodeUplink(b.Context(), typicalUplink); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(processorTime(b)-start)/float64(b.N), "cpu-ns/op")
	})
	for _, c := range []struct {
		name      string
		formatter messages.Formatter
		callers   int
	}{
		{"JavaScript/InWorker", script, 1},
		{"JavaScript/InWorkers16Callers", script, 16},
		{"Lua/InWorker", messages.Formatter{Kind: messages.FormatterLua, Parameter: lua.Thermometer}, 1},
		{"CayenneLPP", messages.Formatter{Kind: messages.FormatterCayenneLPP}, 1},
	} {
		b.Run(c.name, func(b *testing.B) { benchmarkSet(b, c.formatter, c.callers) })
	}
}

func benchmarkSet(b *testing.B, f messages.Formatter, callers int) {
	s, err := formatters.Open(formatters.Config{Timeout: timeout})
	if err != nil {
		b.Fatal(err)
	}
	in := typicalUplink
	if f.Kind == messages.FormatterCayenneLPP {
		in.Bytes = []byte{1, 0x67, 0, 0xd7, 2, 0x68, 0x5a, 3, 0x73, 0x27, 0x8f}
	}
	start := processorTime(b)
	b.ResetTimer()
	b.SetParallelism(callers)
	if callers == 1 {
		for range b.N {
			if _, err := s.DecodeUplink(b.Context(), f, in); err != nil {
				b.Fatal(err)
			}
		}
	} else {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := s.DecodeUplink(b.Context(), f, in); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	b.StopTimer()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(processorTime(b)-start)/float64(b.N), "cpu-ns/op")
}
