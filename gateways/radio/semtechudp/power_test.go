package semtechudp

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"lorikeet/messages"
)

// Packet forwarders for the SX1301 take exactly the powers of their table (lora_pkt_fwd 4.0.1), less the antenna gain.
func TestRefusedPowerIsLoweredUntilItIsTaken(t *testing.T) {
	for name, c := range map[string]struct {
		table []int // what the radio gateway takes
		eirp  float32
		asked []int // of the first downlink
		then  []int // of the next
		want  messages.TxError
	}{
		"in the table":          {[]int{14, 27}, 29, []int{27}, []int{27}, messages.TxOK},
		"ends at 20 dBm":        {[]int{14, 20}, 29, []int{27, 26, 25, 24, 23, 22, 21, 20}, []int{20}, messages.TxOK},
		"antenna gain of 5 dBi": {[]int{11, 15, 16, 17, 18, 19, 21}, 16, []int{14, 13, 12, 11}, []int{11}, messages.TxOK},
		"nothing fits": {[]int{20}, 16, []int{14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2}, []int{14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2},
			messages.TxPower},
	} {
		t.Run(name, func(t *testing.T) {
			b := listening(t, func(c *Config) { c.TxAckTimeout = time.Minute })
			f := b.forwarder()
			f.connect(2, gateway)
			req := downlink()
			req.Power = c.eirp
			for _, asked := range [][]int{c.asked, c.then} {
				result := b.send(t.Context(), req)
				for _, want := range asked {
					resp := f.read(f.pull)
					var got struct {
						Txpk struct{ Powe int }
					}
					if err := json.Unmarshal(resp[4:], &got); err != nil || got.Txpk.Powe != want {
						t.Fatalf("asked for %d dBm, want %d; %v", got.Txpk.Powe, want, err)
					}
					body := ""
					if !slices.Contains(c.table, got.Txpk.Powe) {
						body = `{"txpk_ack":{"error":"TX_POWER"}}`
					}
					f.send(f.pull, packet(2, tokenOf(resp), txAck, gateway, body))
				}
				if got := receiveOrFail(t, result); got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
			}
			f.nothing(f.pull)
		})
	}
}

func TestWhatOneDownlinkLearnsOfThePowerServesTheOthers(t *testing.T) {
	var g radioGateway
	if p, ok := g.refusedPower(27, 27); p != 26 || !ok {
		t.Errorf("got %d, %v", p, ok)
	}
	g.refusedPower(27, 26)
	if p, ok := g.refusedPower(27, 27); p != 25 || !ok || g.power(27) != 25 || g.power(14) != 14 {
		t.Errorf("a slower downlink is to try %d, %v; the next %d and %d", p, ok, g.power(27), g.power(14))
	}
}
