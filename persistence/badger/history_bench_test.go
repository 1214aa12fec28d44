package badger

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"lorikeet/messages"
)

// historyEvents is the size of the log that BenchmarkHistory reads.
const historyEvents = 100_000

// BenchmarkHistory reads from a log of 1,000 devices that send in turn, and of one that has sent a hundred times only, at the beginning.
func BenchmarkHistory(b *testing.B) {
	s := mustOpen(b, testConfig(b.TempDir()))
	start := time.Now().Add(-24 * time.Hour)
	json := []byte(strings.Repeat(`{"key":"value"},`, 20))
	for n := 0; n < historyEvents; n += 1000 {
		var events []messages.Event
		for i := range 1000 {
			dev := fmt.Sprintf("device-%d", i)
			if n == 0 && i < 100 {
				dev = "rare"
			}
			at := start.Add(time.Duration(n+i) * (20 * time.Hour / historyEvents))
			events = append(events, messages.Event{ID: fmt.Sprint(n + i), Device: messages.DeviceID{ApplicationID: "app", DeviceID: dev}, Type: messages.EventUplink, Time: at, JSON: json})
		}
		if _, err := s.Commit(context.Background(), messages.Commit{Device: events[0].Device, Events: events}); err != nil {
			b.Fatal(err)
		}
	}
	middle := start.Add(10 * time.Hour)
	for name, q := range map[string]messages.HistoryQuery{
		"newest100OfDevice":  {DeviceID: "device-500", NewestFirst: true, Max: 100},
		"newest100OfRare":    {DeviceID: "rare", NewestFirst: true, Max: 100},
		"newest100OfAll":     {NewestFirst: true, Max: 100},
		"first100SinceNoon":  {DeviceID: "device-500", After: middle, Max: 100},
		"page1000OfAll":      {After: middle, Max: 1000},
		"nothingOfItsType":   {DeviceID: "device-500", Type: messages.EventJoin},
		"nothingOfItsDevice": {DeviceID: "nobody"},
	} {
		q.ApplicationID = "app"
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := s.ReadHistory(b.Context(), q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("countAll", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.CountHistory(b.Context(), messages.HistoryQuery{ApplicationID: "app"}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
