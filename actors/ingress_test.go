package actors

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"lorikeet/cluster"
	"lorikeet/messages"
)

func TestForeignFramesAreInTheDebugLogOnly(t *testing.T) {
	t.Parallel()
	join := append([]byte{0x00, 8, 7, 6, 5, 4, 3, 2, 1, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11}, make([]byte, 6)...)
	data := []byte{0x40, 4, 3, 2, 1, 0, 7, 0, 0xa, 0xb, 0xc, 0xd}
	for level, want := range map[slog.Level][]string{
		slog.LevelInfo: nil,
		slog.LevelDebug: {
			`msg="join-request of no device here" join_eui=0102030405060708 dev_eui=1112131415161718 gateway_id=roof`,
			`msg="uplink is dropped" reason=unknown_dev_addr dev_addr=01020304 gateway_id=roof`,
		},
	} {
		var log bytes.Buffer
		in := NewIngress(IngressConfig{Directory: cluster.NewDirectory(), Registry: &rig{}, Metrics: NewMetrics(nil), MaxInFlight: 1, Clock: time.Now,
			Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level}))})
		for _, phy := range [][]byte{join, data} {
			in.HandleFrame(messages.Frame{PHYPayload: phy, Rx: []messages.RxMetadata{{GatewayID: "roof"}}})
		}
		if got := strings.Count(log.String(), "\n"); got != len(want) {
			t.Errorf("%s: %d lines:\n%s", level, got, log.String())
		}
		for _, line := range want {
			if !strings.Contains(log.String(), line) {
				t.Errorf("no line with %s in\n%s", line, log.String())
			}
		}
	}
}
