package simulator

import (
	"testing"
	"time"

	"github.com/brocaar/lorawan"
	"github.com/google/go-cmp/cmp"
)

func mac(cid lorawan.CID, p lorawan.MACCommandPayload) lorawan.Payload {
	return &lorawan.MACCommand{CID: cid, Payload: p}
}

func TestMACCommandAnswers(t *testing.T) {
	t.Parallel()
	adr := func(dr, power uint8, mask lorawan.ChMask, control uint8) lorawan.Payload {
		return mac(lorawan.LinkADRReq, &lorawan.LinkADRReqPayload{DataRate: dr, TXPower: power, ChMask: mask, Redundancy: lorawan.Redundancy{ChMaskCntl: control, NbRep: 1}})
	}
	adrAns := func(mask, dr, power bool) lorawan.MACCommand {
		return lorawan.MACCommand{CID: lorawan.LinkADRAns, Payload: &lorawan.LinkADRAnsPayload{ChannelMaskACK: mask, DataRateACK: dr, PowerACK: power}}
	}
	first3 := lorawan.ChMask{true, true, true}
	for name, c := range map[string]struct {
		region Region
		req    []lorawan.Payload
		want   []lorawan.MACCommand
	}{
		"LinkADRReq":                     {EU868, []lorawan.Payload{adr(3, 1, first3, 0)}, []lorawan.MACCommand{adrAns(true, true, true)}},
		"LinkADRReq, undefined channel":  {EU868, []lorawan.Payload{adr(3, 1, lorawan.ChMask{3: true}, 0)}, []lorawan.MACCommand{adrAns(false, true, true)}},
		"LinkADRReq, no channel":         {EU868, []lorawan.Payload{adr(3, 1, lorawan.ChMask{}, 0)}, []lorawan.MACCommand{adrAns(false, true, true)}},
		"LinkADRReq, FSK":                {EU868, []lorawan.Payload{adr(7, 1, first3, 0)}, []lorawan.MACCommand{adrAns(true, false, true)}},
		"LinkADRReq, power":              {EU868, []lorawan.Payload{adr(3, 8, first3, 0)}, []lorawan.MACCommand{adrAns(true, true, false)}},
		"LinkADRReq block of US915":      {US915, []lorawan.Payload{adr(2, 0, lorawan.ChMask{}, 7), adr(2, 0, lorawan.ChMask{8: true}, 0)}, []lorawan.MACCommand{adrAns(true, true, true), adrAns(true, true, true)}},
		"LinkADRReq of US915, only 500k": {US915, []lorawan.Payload{adr(2, 0, first3, 7)}, []lorawan.MACCommand{adrAns(true, false, true)}},
		"DutyCycleReq":                   {EU868, []lorawan.Payload{mac(lorawan.DutyCycleReq, &lorawan.DutyCycleReqPayload{MaxDCycle: 3})}, []lorawan.MACCommand{{CID: lorawan.DutyCycleAns}}},
		"RXParamSetupReq": {EU868, []lorawan.Payload{mac(lorawan.RXParamSetupReq, &lorawan.RXParamSetupReqPayload{Frequency: 868_100_000, DLSettings: lorawan.DLSettings{RX2DataRate: 3, RX1DROffset: 6}})},
			[]lorawan.MACCommand{{CID: lorawan.RXParamSetupAns, Payload: &lorawan.RXParamSetupAnsPayload{ChannelACK: true, RX2DataRateACK: true}}}},
		"DevStatusReq": {EU868, []lorawan.Payload{mac(lorawan.DevStatusReq, nil)}, []lorawan.MACCommand{{CID: lorawan.DevStatusAns, Payload: &lorawan.DevStatusAnsPayload{Battery: 254, Margin: 10}}}},
		"NewChannelReq": {EU868, []lorawan.Payload{mac(lorawan.NewChannelReq, &lorawan.NewChannelReqPayload{ChIndex: 3, Freq: 867_100_000, MaxDR: 5})},
			[]lorawan.MACCommand{{CID: lorawan.NewChannelAns, Payload: &lorawan.NewChannelAnsPayload{ChannelFrequencyOK: true, DataRateRangeOK: true}}}},
		"NewChannelReq, default channel": {EU868, []lorawan.Payload{mac(lorawan.NewChannelReq, &lorawan.NewChannelReqPayload{ChIndex: 0, Freq: 867_100_000, MaxDR: 5})},
			[]lorawan.MACCommand{{CID: lorawan.NewChannelAns, Payload: &lorawan.NewChannelAnsPayload{DataRateRangeOK: true}}}},
		"NewChannelReq of US915": {US915, []lorawan.Payload{mac(lorawan.NewChannelReq, &lorawan.NewChannelReqPayload{ChIndex: 3, Freq: 902_300_000, MaxDR: 3})}, nil},
		"RXTimingSetupReq":       {EU868, []lorawan.Payload{mac(lorawan.RXTimingSetupReq, &lorawan.RXTimingSetupReqPayload{Delay: 5})}, []lorawan.MACCommand{{CID: lorawan.RXTimingSetupAns}}},
		"DLChannelReq": {EU868, []lorawan.Payload{mac(lorawan.DLChannelReq, &lorawan.DLChannelReqPayload{ChIndex: 1, Freq: 867_900_000})},
			[]lorawan.MACCommand{{CID: lorawan.DLChannelAns, Payload: &lorawan.DLChannelAnsPayload{UplinkFrequencyExists: true, ChannelFrequencyOK: true}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newABP(t, testSession, c.region)
			up, _ := mustSend(t, m, Uplink{FPort: 1})
			if _, err := m.Receive(rx1(m, up, down{commands: c.req}.bytes(t, testSession))); err != nil {
				t.Fatal(err)
			}
			_, phy := mustSend(t, m, Uplink{FPort: 1, Payload: []byte("x")})
			if diff := cmp.Diff(c.want, commands(phy)); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRXTimingSetup: the new delay holds from the next uplink on, and the answer is repeated until a downlink comes.
func TestRXTimingSetup(t *testing.T) {
	t.Parallel()
	m := newABP(t, testSession, EU868)
	up, _ := mustSend(t, m, Uplink{FPort: 1})
	req := mac(lorawan.RXTimingSetupReq, &lorawan.RXTimingSetupReqPayload{Delay: 3})
	if _, err := m.Receive(rx1(m, up, down{commands: []lorawan.Payload{req}}.bytes(t, testSession))); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		var phy *lorawan.PHYPayload
		if up, phy = mustSend(t, m, Uplink{FPort: 1}); len(commands(phy)) != 1 {
			t.Fatalf("want RXTimingSetupAns in each uplink, got %v", commands(phy))
		}
	}
	r := rx1(m, up, down{fCnt: 1}.bytes(t, testSession))
	if r.After[0].Delay != 3*time.Second {
		t.Errorf("RX1 after %s, want 3 s", r.After[0].Delay)
	}
	if _, err := m.Receive(r); err != nil {
		t.Fatal(err)
	}
	if _, phy := mustSend(t, m, Uplink{FPort: 1}); len(commands(phy)) != 0 {
		t.Errorf("the answer goes on: %v", commands(phy))
	}
}

func TestUplinkRequests(t *testing.T) {
	t.Parallel()
	m := newABP(t, testSession, EU868)
	up, phy := mustSend(t, m, Uplink{LinkCheck: true, DeviceTime: true})
	want := []lorawan.MACCommand{{CID: lorawan.LinkCheckReq}, {CID: lorawan.DeviceTimeReq}}
	if diff := cmp.Diff(want, commands(phy)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	ans := mac(lorawan.LinkCheckAns, &lorawan.LinkCheckAnsPayload{Margin: 20, GwCnt: 2})
	d, err := m.Receive(rx1(m, up, down{commands: []lorawan.Payload{ans}}.bytes(t, testSession)))
	if err != nil || len(d.Commands) != 1 || d.Commands[0].CID != lorawan.LinkCheckAns {
		t.Errorf("got %+v, %v", d, err)
	}
}
