package test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lorikeet/cmd/lorikeet/simulator"
	"lorikeet/messages"
)

// BenchmarkCluster compares what an uplink costs on a single node, on a cluster of one node with one copy of each record, and on three nodes with three
// copies; the NATS servers are embedded, so that the processes hold everything. LORIKEET_BENCH_TIME is the length of the run at each rate.
func BenchmarkCluster(b *testing.B) {
	length := 10 * time.Second
	if text := os.Getenv("LORIKEET_BENCH_TIME"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			b.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		nodes int
	}{{"single", 0}, {"1-node-R1", 1}, {"3-nodes-R3", 3}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				benchmarkNodes(b, c.nodes, length)
			}
		})
	}
}

// startEmbedded starts nodes with embedded NATS servers; 0 is a single node.
func startEmbedded(b *testing.B, count int) []*process {
	if count == 0 {
		return []*process{start(b, "LORIKEET_LOG_LEVEL=error")}
	}
	var places []place
	var peers []string
	for range count {
		places = append(places, onLoopback(b))
		peers = append(peers, onLoopback(b).cluster)
	}
	env := []string{"LORIKEET_LOG_LEVEL=error", "LORIKEET_CLUSTER_URL=embedded", "LORIKEET_KEY_ENCRYPTION_KEY=" + clusterKEK, "LORIKEET_EMBEDDED_NATS_SECRET=for-the-benchmark",
		fmt.Sprintf("LORIKEET_CLUSTER_REPLICAS=%d", count)}
	if count > 1 {
		env = append(env, "LORIKEET_EMBEDDED_NATS_PEERS="+strings.Join(peers, ","))
	}
	all := make([]*process, count)
	var starting sync.WaitGroup
	errs := make([]error, count)
	for i, at := range places {
		p := &process{t: b, dir: b.TempDir(), rest: at.rest, mqtt: at.mqtt, udp: at.udp}
		all[i] = p
		starting.Go(func() {
			errs[i] = p.launch(append(env[:len(env):len(env)], fmt.Sprintf("LORIKEET_CLUSTER_NODE=n%d", i+1), "LORIKEET_CLUSTER_LISTEN="+at.cluster,
				"LORIKEET_EMBEDDED_NATS_CLUSTER_LISTEN="+peers[i])...)
		})
	}
	b.Cleanup(func() {
		for _, p := range all {
			if running := p.running.Load(); running != nil {
				_ = running.Kill()
			}
		}
	})
	starting.Wait()
	for i, err := range errs {
		if err != nil {
			b.Fatalf("node %d: %v\n%s", i+1, err, all[i].log.String())
		}
	}
	return all
}

func benchmarkNodes(b *testing.B, count int, length time.Duration) {
	const app = "bench-app"
	all := startEmbedded(b, count)
	key := all[0].application(app)
	cfg := simulator.DefaultConfig()
	var udp []string
	for _, p := range all {
		udp = append(udp, p.udp)
	}
	cfg.HTTP, cfg.UDP, cfg.MQTT, cfg.AdminKey, cfg.APIKey, cfg.ApplicationID = "http://"+all[0].rest, strings.Join(udp, ","), "tcp://"+all[0].mqtt, adminKey, key, app
	cfg.Devices, cfg.Gateways, cfg.Batch, cfg.Activation = 1000, 3, 3, simulator.ABP
	cfg.Formatter = messages.Formatter{Kind: messages.FormatterCayenneLPP}
	cfg.StateFile, cfg.Drain = filepath.Join(b.TempDir(), "devices.json"), 5*time.Second
	var last simulator.Report
	var cpu time.Duration
	for _, rate := range []float64{200, 250, 500, 1000, 2000, 4000} {
		cfg.Rate, cfg.Duration = rate, length
		if rate == 200 {
			cfg.Duration = 6 * time.Second // the first run registers the devices and teaches the servers who hears them
		}
		before := cpuOfAll(b, all)
		report, err := simulator.Run(context.Background(), cfg, io.Discard)
		if err != nil {
			b.Fatal(err)
		}
		cfg.HTTP, cfg.Formatter = "", messages.Formatter{} // everything is registered now
		used := cpuOfAll(b, all) - before
		fmt.Fprintf(os.Stderr, "%d nodes at %.0f/s: sent %.0f/s, %d missing, p50 %s, p99 %s, %.0f ms CPU per 1,000, simulator late %s\n", count, rate, report.UplinkRate,
			report.EventsMissing, report.LatencyP50, report.LatencyP99, used.Seconds()*1e6/float64(report.Uplinks), report.MaxLag)
		if report.EventsMissing > 0 || time.Duration(report.LatencyP99) > 2*time.Second || report.UplinkRate < 0.95*rate {
			break
		}
		last, cpu = report, used
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(last.UplinkRate, "uplinks/s")
	b.ReportMetric(cpu.Seconds()*1e6/float64(max(last.Uplinks, 1)), "cpu-ms/1000-uplinks")
	b.ReportMetric(time.Duration(last.LatencyP50).Seconds()*1000, "p50-ms")
	b.ReportMetric(time.Duration(last.LatencyP99).Seconds()*1000, "p99-ms")
}

func cpuOfAll(b *testing.B, all []*process) (sum time.Duration) {
	for _, p := range all {
		sum += cpuOf(b, p.cmd.Process.Pid)
	}
	return sum
}
