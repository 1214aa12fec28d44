package test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"lorikeet/cmd/lorikeet/simulator"
	"lorikeet/messages"
)

const benchLua = `
function decodeUplink(input)
  local channel, kind, tenths = string.unpack(">BBi2", input.payload)
  return { data = { sensor = channel, kind = kind, temperature = tenths / 10 } }
end`

const benchJavaScript = `
function decodeUplink(input) {
  var b = input.bytes;
  var tenths = (b[2] << 8 | b[3]) << 16 >> 16;
  return { data: { sensor: b[0], kind: b[1], temperature: tenths / 10 } };
}`

// BenchmarkServer looks for the highest rate at which the server, as a process beside the load generator, delivers every uplink of 1,000 devices,
// decoded and durably committed, to an MQTT subscriber with a p99 of less than 2 s. LORIKEET_BENCH_TIME is the length of the run at each rate.
func BenchmarkServer(b *testing.B) {
	length := 10 * time.Second
	if text := os.Getenv("LORIKEET_BENCH_TIME"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			b.Fatal(err)
		}
	}
	for name, f := range map[string]messages.Formatter{
		"CayenneLPP": {Kind: messages.FormatterCayenneLPP},
		"Lua":        {Kind: messages.FormatterLua, Parameter: benchLua},
		"JavaScript": {Kind: messages.FormatterJavaScript, Parameter: benchJavaScript},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				benchmarkServer(b, f, length)
			}
		})
	}
}

func benchmarkServer(b *testing.B, f messages.Formatter, length time.Duration) {
	const app = "bench-app"
	p := start(b, "LORIKEET_LOG_LEVEL=error")
	key := p.application(app)
	cfg := simulator.DefaultConfig()
	cfg.HTTP, cfg.UDP, cfg.MQTT, cfg.AdminKey, cfg.APIKey, cfg.ApplicationID = "http://"+p.rest, p.udp, "tcp://"+p.mqtt, adminKey, key, app
	cfg.Devices, cfg.Gateways, cfg.Batch, cfg.Activation, cfg.Formatter = 1000, 4, 4, simulator.ABP, f
	cfg.StateFile, cfg.Drain = filepath.Join(b.TempDir(), "devices.json"), 5*time.Second
	var best simulator.Report
	var cpu time.Duration
	for _, rate := range []float64{500, 1000, 2500, 4000, 5000, 6000, 8000, 10000, 12500, 15000} {
		cfg.Rate, cfg.Duration = rate, length
		if rate == 500 {
			cfg.Duration = 4 * time.Second // the first run registers the devices and teaches the server who hears them
		}
		before := cpuOf(b, p.cmd.Process.Pid)
		report, err := simulator.Run(context.Background(), cfg, io.Discard)
		if err != nil {
			b.Fatal(err)
		}
		cfg.HTTP, cfg.Formatter = "", messages.Formatter{} // everything is registered now
		used := cpuOf(b, p.cmd.Process.Pid) - before
		fmt.Fprintf(os.Stderr, "%s at %.0f/s: sent %.0f/s, %d missing, p50 %s, p99 %s, %.0f ms CPU per 1,000, simulator late %s\n", f.Kind, rate, report.UplinkRate,
			report.EventsMissing, report.LatencyP50, report.LatencyP99, used.Seconds()*1e6/float64(report.Uplinks), report.MaxLag)
		if report.EventsMissing > 0 || time.Duration(report.LatencyP99) > 2*time.Second || report.UplinkRate < 0.95*rate {
			break
		}
		best, cpu = report, used
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(best.UplinkRate, "uplinks/s")
	b.ReportMetric(cpu.Seconds()*1e6/float64(max(best.Uplinks, 1)), "cpu-ms/1000-uplinks")
	b.ReportMetric(time.Duration(best.LatencyP50).Seconds()*1000, "p50-ms")
	b.ReportMetric(time.Duration(best.LatencyP99).Seconds()*1000, "p99-ms")
	p.terminate()
}

// cpuOf is the CPU time that a process and its children have used, so far as the operating system still knows them.
func cpuOf(b *testing.B, pid int) time.Duration {
	b.Helper()
	const ticks = 100 // USER_HZ of Linux on all supported machines
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		b.Fatal(err)
	}
	total := 0
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // ended meanwhile
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest) // from the third field of proc_pid_stat(5): state, ppid, …
		if len(fields) < 15 || filepath.Base(filepath.Dir(path)) != strconv.Itoa(pid) && fields[1] != strconv.Itoa(pid) {
			continue
		}
		for _, i := range []int{11, 12, 13, 14} { // utime, stime, cutime, cstime
			n, err := strconv.Atoi(fields[i])
			if err != nil {
				b.Fatal(err)
			}
			total += n
		}
	}
	return time.Duration(total) * time.Second / ticks
}
