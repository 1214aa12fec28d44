package actors

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"lorikeet/actors/device"
	"lorikeet/actors/radiogateway"
	"lorikeet/messages"
)

// ask is what one radio gateway was asked for.
type ask struct {
	gateway byte
	tmst    uint32
}

// outcome is what a Transmitter reported.
type outcome struct {
	result messages.TxError
	missed bool
}

// radioSide plays radio gateways: each answers with what stands first in its list, and when that is empty it sends. TxUnanswered is silence.
type radioSide struct {
	answers map[byte][]messages.TxError
	asked   []ask
}

func (r *radioSide) send(ctx context.Context, req messages.TxRequest) messages.TxError {
	gw := req.GatewayEUI[0]
	r.asked = append(r.asked, ask{gw, req.Timestamp})
	if len(r.answers[gw]) == 0 {
		return messages.TxOK
	}
	answer := r.answers[gw][0]
	r.answers[gw] = r.answers[gw][1:]
	if answer == messages.TxUnanswered {
		<-ctx.Done()
	}
	return answer
}

func (r *radioSide) transmitter(subBands []radiogateway.SubBand) *Transmitter {
	return NewTransmitter(TransmitterConfig{Send: r.send, SubBands: subBands, Clock: time.Now, Log: slog.New(slog.DiscardHandler)})
}

// classA is the answer to an uplink that these radio gateways have heard just now, the first of them best, at tmst 1,000,000.
func classA(gateways ...byte) *device.Transmit {
	sf7 := messages.DataRate{SpreadingFactor: 7, Bandwidth: 125000, CodingRate: "4/5"}
	t := &device.Transmit{PHYPayload: make([]byte, 12), Windows: []device.Window{
		{Delay: time.Second, Frequency: 868100000, DataRate: sf7, Power: 16},
		{Delay: 2 * time.Second, Frequency: 869525000, DataRate: sf7, Power: 29},
	}}
	for i, g := range gateways {
		t.Candidates = append(t.Candidates, messages.Frame{Settings: messages.TxSettings{DataRate: sf7}, Rx: []messages.RxMetadata{{
			GatewayEUI: messages.EUI64{g}, UplinkToken: []byte{g}, Timestamp: 1_000_000, SNR: float32(5 - 5*i), ReceivedAt: time.Now(),
		}}})
	}
	return t
}

// transmit sends and waits for the report.
func transmit(tr *Transmitter, tx *device.Transmit) (o outcome) {
	done := make(chan struct{})
	tr.Transmit(tx, func(result messages.TxError, missed bool) { o = outcome{result, missed}; close(done) })
	<-done
	return o
}

const rx1, rx2 = 2_000_000, 3_000_000

func TestAnswersFallBackToOtherWindowsAndRadioGateways(t *testing.T) {
	late, collision, silence := messages.TxTooLate, messages.TxCollisionPacket, messages.TxUnanswered
	for name, c := range map[string]struct {
		answers map[byte][]messages.TxError
		asked   []ask
		want    outcome
	}{
		"taken":                       {nil, []ask{{1, rx1}}, outcome{}},
		"RX2":                         {map[byte][]messages.TxError{1: {late}}, []ask{{1, rx1}, {1, rx2}}, outcome{}},
		"another radio gateway":       {map[byte][]messages.TxError{1: {late, collision}}, []ask{{1, rx1}, {1, rx2}, {2, rx1}}, outcome{}},
		"not connected":               {map[byte][]messages.TxError{1: {messages.TxNoPath}}, []ask{{1, rx1}, {2, rx1}}, outcome{}},
		"nobody is":                   {map[byte][]messages.TxError{1: {messages.TxNoPath}, 2: {messages.TxNoPath}}, []ask{{1, rx1}, {2, rx1}}, outcome{messages.TxNoPath, false}},
		"all refuse":                  {map[byte][]messages.TxError{1: {late, late}, 2: {collision, collision}}, []ask{{1, rx1}, {1, rx2}, {2, rx1}, {2, rx2}}, outcome{collision, false}},
		"silent, then another in RX2": {map[byte][]messages.TxError{1: {silence}}, []ask{{1, rx1}, {2, rx2}}, outcome{silence, false}}, // the first may be on air
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &radioSide{answers: c.answers}
				tr := r.transmitter(nil)
				if got := transmit(tr, classA(1, 2)); got != c.want {
					t.Errorf("got %+v, want %+v", got, c.want)
				}
				if diff := cmp.Diff(c.asked, r.asked, cmp.AllowUnexported(ask{})); diff != "" {
					t.Error(diff)
				}
				tr.Close()
			})
		})
	}
}

func TestWhatCantReachAWindowIsMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &radioSide{}
		tr := r.transmitter(nil)
		defer tr.Close()
		tx := classA(1)
		time.Sleep(950 * time.Millisecond)
		if got := transmit(tr, tx); got != (outcome{}) || r.asked[0].tmst != rx2 {
			t.Errorf("50 ms before RX1: %+v, asked for %v", got, r.asked)
		}
		time.Sleep(time.Second)
		if got := transmit(tr, tx); got != (outcome{messages.TxTooLate, true}) || len(r.asked) != 1 {
			t.Errorf("50 ms before RX2: %+v, asked for %v", got, r.asked)
		}
	})
}

// ETSI EN 300 220: 1 % at 868.1 MHz, 10 % at 869.525 MHz.
func TestDutyCycleOfRadioGateways(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &radioSide{}
		tr := r.transmitter(radiogateway.EU868())
		defer tr.Close()
		sent := map[uint32]int{} // by window
		for n := uint32(0); n < 20_000; n++ {
			tx := classA(1)
			tmst := 1_000_000 + 100_000*n
			tx.Candidates[0].Rx[0].Timestamp = tmst
			if transmit(tr, tx).missed {
				break
			}
			sent[1_000_000+r.asked[n].tmst-tmst]++
			time.Sleep(100 * time.Millisecond)
		}
		perHour := int(time.Hour / radiogateway.Airtime(classA(1).Windows[0].DataRate, 12))
		if diff := cmp.Diff(map[uint32]int{rx1: perHour / 100, rx2: perHour / 10}, sent); diff != "" {
			t.Error(diff)
		}
		if transmit(tr, classA(2)) != (outcome{}) || r.asked[len(r.asked)-1] != (ask{2, rx1}) {
			t.Error("another radio gateway has no time left")
		}
	})
}
