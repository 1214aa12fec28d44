package node

import (
	"fmt"
	"testing"
	"time"

	"lorikeet/messages"
)

// benchPair is a node in this process beside one in another; devices are of the other one.
func benchPair(b *testing.B) (n *Node, devices []messages.DeviceID) {
	b.Helper()
	server := natsServer(b, b.TempDir(), 0)
	other := spawn(b, childSpec{Name: "b", NATS: server.ClientURL(), Lease: 2 * time.Second, Limit: time.Minute})
	other.event("started")
	cfg := testConfig(b)
	cfg.JetStream = jetStream(b, server.ClientURL())
	n = startNode(b, cfg)
	if err := n.Activate(b.Context()); err != nil {
		b.Fatal(err)
	}
	for i := 0; len(devices) < 1000; i++ {
		if d := deviceNamed(fmt.Sprint("dev-", i)); n.OwnerOf(d) == "b" {
			devices = append(devices, d)
		}
	}
	return n, devices
}

func BenchmarkAskOtherNode(b *testing.B) {
	n, devices := benchPair(b)
	i := 0
	for b.Loop() {
		i++
		if _, err := n.Ask(b.Context(), devices[i%len(devices)], command("do")); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAskOtherNodeFrom64(b *testing.B) {
	n, devices := benchPair(b)
	b.SetParallelism(32)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := n.Ask(b.Context(), devices[i%len(devices)], command("do")); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkAskThisNode(b *testing.B) {
	n := startNode(b, testConfig(b))
	if err := n.Activate(b.Context()); err != nil {
		b.Fatal(err)
	}
	d := deviceNamed("x")
	for b.Loop() {
		if _, err := n.Ask(b.Context(), d, command("do")); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFrames has 1000 frames in flight to the other node.
func BenchmarkFrames(b *testing.B) {
	n, devices := benchPair(b)
	room := make(chan struct{}, 1000)
	b.ResetTimer()
	for i := range b.N {
		room <- struct{}{}
		n.Tell(devices[i%len(devices)], &frame1{ID: "bench", then: func() { <-room }})
	}
	for range cap(room) {
		room <- struct{}{}
	}
}
