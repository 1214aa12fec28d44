package broker

import (
	"bufio"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"lorikeet/messages"
)

// BenchmarkFanOut publishes events of 700 bytes to subscribers over loopback, and ends when the last of them has the last. Those that are kept have
// sessions in the store.
func BenchmarkFanOut(b *testing.B) {
	for _, subscribers := range []int{1, 10, 100} {
		for _, c := range []struct {
			name string
			qos  byte
			kept bool
		}{{"qos=0", 0, false}, {"qos=1", 1, false}, {"qos=1,kept", 1, true}} {
			b.Run(fmt.Sprintf("subscribers=%d/%s", subscribers, c.name), func(b *testing.B) { benchmarkFanOut(b, subscribers, c.qos, c.kept) })
		}
	}
}

func benchmarkFanOut(b *testing.B, subscribers int, qos byte, kept bool) {
	cfg := newWorld().config()
	cfg.Log = slog.New(slog.DiscardHandler)
	s := start(b, cfg)
	var all sync.WaitGroup
	progress := make([]chan int, subscribers)
	for i := range subscribers {
		c := dial(b, s)
		c.login(b, 4, fmt.Sprint("c", i), "app1", "all", func(pk *packets.Packet) { pk.Connect.Clean = !kept })
		c.subscribe(b, "#", qos)
		_ = c.SetDeadline(time.Now().Add(10 * time.Minute))
		progress[i] = make(chan int, b.N/1000+1)
		all.Go(func() { consume(b, c, b.N, progress[i]) })
	}
	e := event1(0)
	e.JSON = []byte(`{"x":"` + strings.Repeat("x", 692) + `"}`)
	b.ReportAllocs()
	b.ResetTimer()
	for n := range b.N { // not b.Loop: the subscribers must know how many will come
		if n%1000 == 999 && n >= 3000 { // no more than 4000 on their way to a subscriber: how fast, not how soon cut
			for _, p := range progress {
				<-p
			}
		}
		s.commit(e)
	}
	all.Wait()
	b.ReportMetric(float64(b.N*subscribers)/b.Elapsed().Seconds(), "deliveries/s")
}

// consume reads n messages, and confirms those that want it.
func consume(b *testing.B, c *raw, n int, progress chan<- int) {
	c.r = bufio.NewReaderSize(c.Conn, 64<<10)
	acks := bufio.NewWriterSize(c.Conn, 4<<10)
	for i := range n {
		pk, err := c.read()
		if err != nil {
			b.Error(err)
			return
		}
		if pk.FixedHeader.Qos > 0 {
			_, _ = acks.Write([]byte{packets.Puback << 4, 2, byte(pk.PacketID >> 8), byte(pk.PacketID)})
		}
		if c.r.Buffered() == 0 {
			_ = acks.Flush()
		}
		if i%1000 == 999 {
			progress <- i
		}
	}
	_ = acks.Flush()
}

// BenchmarkManyFilters publishes where 10000 subscriptions are for one device each.
func BenchmarkManyFilters(b *testing.B) {
	s, stop := unnetworked(b, newWorld().config())
	defer stop()
	app := newApplication("app1")
	for i := range 10000 {
		session := newSession(sessionKey{username: "app1"}, "", app, s)
		filter := fmt.Sprintf("v3/app1/devices/dev%d/up", i)
		_, levels, _ := rewriteFilter("app1", filter)
		app.attach(session)
		app.subscribe(session, request{text: filter, levels: levels})
	}
	e := eventOf("app1", "dev77", messages.EventUplink, 1)
	b.ReportAllocs()
	for b.Loop() {
		app.publish(nil, &e)
	}
}
