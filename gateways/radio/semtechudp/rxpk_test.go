package semtechudp

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
)

// uplink sends the body of a PUSH_DATA and gives what came out of it.
func (b *bench) uplink(body string) []messages.Frame {
	b.Helper()
	if _, ok := b.receive(packet(2, 1, pushData, gateway, body), home, b.now); !ok {
		b.Fatal("PUSH_DATA not acknowledged")
	}
	b.drain()
	var out []messages.Frame
	for {
		select {
		case f := <-b.sink.frames:
			out = append(out, f)
			continue
		default:
		}
		return out
	}
}

func rxpks(list ...string) string { return `{"rxpk":[` + strings.Join(list, ",") + `]}` }

func TestFieldsOfRxpk(t *testing.T) {
	b := newBench(t)
	data := base64.StdEncoding.EncodeToString(dataUp)
	got := b.uplink(rxpks(`{"time":"2026-03-04T11:59:59.528002Z","tmms":1456660817528,"tmst":3512348611,"ftime":123456789,"chan":2,"rfch":1,"brd":3,"aesk":4,"freq":866.349812,
		"stat":1,"modu":"LORA","datr":"SF7BW125","codr":"4/6","rssi":-35,"rssis":-38.5,"lsnr":5.1,"foff":-1200,"hpw":8,"size":12,"data":"` + data + `","etime":"AAECAw==","unknown":{"a":[1]}}`))
	if len(got) != 1 {
		t.Fatalf("%d frames", len(got))
	}
	signal := float32(-38.5)
	want := messages.Frame{
		PHYPayload: dataUp, ReceivedAt: noon, CorrelationID: got[0].CorrelationID,
		Settings: messages.TxSettings{
			DataRate:  messages.DataRate{SpreadingFactor: 7, Bandwidth: 125000, CodingRate: "4/6"},
			Frequency: 866349812, Timestamp: 3512348611, Time: time.Date(2026, 3, 4, 11, 59, 59, 528002000, time.UTC), EnableCRC: true,
		},
		Rx: []messages.RxMetadata{{
			GatewayID: "gateway-1", GatewayEUI: gateway, Time: time.Date(2026, 3, 4, 11, 59, 59, 528002000, time.UTC),
			GPSTime: gpsEpoch.Add(1456660817528*time.Millisecond - 18*time.Second), Timestamp: 3512348611, FineTimestamp: 123456789, HasFineTimestamp: true,
			EncryptedFineTime: []byte{0, 1, 2, 3}, EncryptedFineTimeKey: "4", RSSI: -35, ChannelRSSI: -35, SignalRSSI: &signal, SNR: 5.1, FrequencyOffset: -1200,
			HoppingWidth: 8, ChannelIndex: 2, Location: place, ReceivedAt: noon, Board: 3, RFChain: 1,
			UplinkToken: uplinkToken{eui: gateway, tmst: 3512348611, board: 3, rfChain: 1}.bytes(),
		}},
	}
	if diff := cmp.Diff(want, got[0]); diff != "" {
		t.Error(diff)
	}
	if !strings.HasPrefix(got[0].CorrelationID, "gs:uplink:") || len(got[0].CorrelationID) != len("gs:uplink:")+26 {
		t.Errorf("correlation id %q", got[0].CorrelationID)
	}
}

func TestGPSTimeHasLeapSeconds(t *testing.T) {
	b := newBench(t)
	gps := noon.Sub(gpsEpoch) + 18*time.Second
	got := b.uplink(rxpks(strings.Replace(rxpkJSON(dataUp), "{", fmt.Sprintf(`{"tmms":%d,`, gps.Milliseconds()), 1)))
	if len(got) != 1 || !got[0].Rx[0].GPSTime.Equal(noon) {
		t.Errorf("got %+v, want GPS time %v", got, noon)
	}
}

func TestOdditiesOfRxpkAreTaken(t *testing.T) {
	for name, c := range map[string]struct {
		old, new string
		check    func(messages.Frame) any
		want     any
	}{
		"time empty":          {`"tmst"`, `"time":"","tmst"`, func(f messages.Frame) any { return f.Settings.Time.IsZero() }, true},
		"time missing":        {`"tmst"`, `"tmst"`, func(f messages.Frame) any { return f.Settings.Time.IsZero() }, true},
		"time null":           {`"tmst"`, `"time":null,"tmst"`, func(f messages.Frame) any { return f.Settings.Time.IsZero() }, true},
		"clock never set":     {`"tmst"`, `"time":"1970-01-01T00:00:12Z","tmst"`, func(f messages.Frame) any { return f.Settings.Time.IsZero() }, true},
		"clock in 2100":       {`"tmst"`, `"time":"2100-01-01T00:00:12Z","tmst"`, func(f messages.Frame) any { return f.Rx[0].Time.IsZero() }, true},
		"time without zone":   {`"tmst"`, `"time":"2026-03-04T12:00:00.5","tmst"`, func(f messages.Frame) any { return f.Settings.Time }, noon.Add(500 * time.Millisecond)},
		"tmms of 1980":        {`"tmst"`, `"tmms":5,"tmst"`, func(f messages.Frame) any { return f.Rx[0].GPSTime.IsZero() }, true},
		"tmms out of range":   {`"tmst"`, `"tmms":999999999999999999,"tmst"`, func(f messages.Frame) any { return f.Rx[0].GPSTime.IsZero() }, true},
		"tmst missing":        {`"tmst":1000,`, ``, func(f messages.Frame) any { return f.Rx[0].UplinkToken == nil }, true},
		"tmst negative":       {`1000`, `-1`, func(f messages.Frame) any { return f.Settings.Timestamp }, uint32(math.MaxUint32)},
		"tmst as a float":     {`1000`, `4.294967295e9`, func(f messages.Frame) any { return f.Settings.Timestamp }, uint32(math.MaxUint32)},
		"tmst as text":        {`1000`, `"1000"`, func(f messages.Frame) any { return f.Settings.Timestamp }, uint32(1000)},
		"freq as text":        {`868.1`, `"868.100000"`, func(f messages.Frame) any { return f.Settings.Frequency }, uint64(868100000)},
		"ftime of no second":  {`"tmst"`, `"ftime":1000000000,"tmst"`, func(f messages.Frame) any { return f.Rx[0].HasFineTimestamp }, false},
		"ftime 0":             {`"tmst"`, `"ftime":0,"tmst"`, func(f messages.Frame) any { return f.Rx[0].HasFineTimestamp }, true},
		"stat missing":        {`"stat":1,`, ``, func(f messages.Frame) any { return f.Settings.EnableCRC }, true},
		"stat 0: no CRC":      {`"stat":1`, `"stat":0`, func(f messages.Frame) any { return f.Settings.EnableCRC }, false},
		"rssi missing":        {`"rssi":-35,`, ``, func(f messages.Frame) any { return f.Rx[0].RSSI }, float32(0)},
		"rssis alone":         {`"rssi"`, `"rssis"`, func(f messages.Frame) any { return []any{f.Rx[0].RSSI, *f.Rx[0].SignalRSSI} }, []any{float32(-35), float32(-35)}},
		"lsnr nan":            {`5.5`, `nan`, func(f messages.Frame) any { return f.Rx[0].SNR }, float32(0)},
		"rssi not of Earth":   {`-35`, `1e30`, func(f messages.Frame) any { return f.Rx[0].RSSI }, float32(0)},
		"chan out of range":   {`"chan":1`, `"chan":-1`, func(f messages.Frame) any { return f.Rx[0].ChannelIndex }, uint32(0)},
		"size missing":        {`"size":12,`, ``, func(f messages.Frame) any { return len(f.PHYPayload) }, 12},
		"modu missing":        {`"modu":"LORA",`, ``, func(f messages.Frame) any { return f.Settings.DataRate.SpreadingFactor }, uint8(7)},
		"codr OFF":            {`4/5`, `OFF`, func(f messages.Frame) any { return f.Settings.DataRate.CodingRate }, ""},
		"codr empty":          {`4/5`, ``, func(f messages.Frame) any { return f.Settings.DataRate.CodingRate }, ""},
		"codr reduced":        {`4/5`, `1/2`, func(f messages.Frame) any { return f.Settings.DataRate.CodingRate }, "4/8"},
		"codr long interleav": {`4/5`, `4/6LI`, func(f messages.Frame) any { return f.Settings.DataRate.CodingRate }, "4/6LI"},
		"escaped slash":       {`4/5`, `4\/5`, func(f messages.Frame) any { return f.Settings.DataRate.CodingRate }, "4/5"},
		"2.4 GHz":             {`"freq":868.1,"stat":1,"modu":"LORA","datr":"SF7BW125"`, `"freq":2479.0,"modu":"LORA","datr":"SF12BW812"`, func(f messages.Frame) any { return f.Settings.DataRate.Bandwidth }, uint32(812000)},
		"SF5":                 {`SF7`, `SF5`, func(f messages.Frame) any { return f.Settings.DataRate.SpreadingFactor }, uint8(5)},
		"FSK": {`"modu":"LORA","datr":"SF7BW125","codr":"4/5"`, `"modu":"FSK","datr":50000`, func(f messages.Frame) any { return f.Settings.DataRate },
			messages.DataRate{Modulation: messages.FSK, BitRate: 50000}},
		"FSK as text": {`"modu":"LORA","datr":"SF7BW125","codr":"4/5"`, `"modu":"FSK","datr":"50000"`, func(f messages.Frame) any { return f.Settings.DataRate.BitRate }, uint32(50000)},
		"LR-FHSS": {`"modu":"LORA","datr":"SF7BW125","codr":"4/5"`, `"modu":"LR-FHSS","datr":"M0CW137","codr":"2/6","hpw":52`, func(f messages.Frame) any {
			return []any{f.Settings.DataRate, f.Rx[0].HoppingWidth}
		}, []any{messages.DataRate{Modulation: messages.LRFHSS, Bandwidth: 137000, CodingRate: "1/3"}, uint32(52)}},
		"LR-FHSS 4/6": {`"modu":"LORA","datr":"SF7BW125","codr":"4/5"`, `"modu":"LR-FHSS","datr":"M1CW1523","codr":"4/6"`, func(f messages.Frame) any { return f.Settings.DataRate },
			messages.DataRate{Modulation: messages.LRFHSS, ModulationType: 1, Bandwidth: 1523000, CodingRate: "2/3"}},
		"keys twice: the last counts": {`"tmst":1000`, `"tmst":1,"tmst":1000`, func(f messages.Frame) any { return f.Settings.Timestamp }, uint32(1000)},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			doc := rxpkJSON(dataUp)
			if !strings.Contains(doc, c.old) {
				t.Fatalf("%s is not in %s", c.old, doc)
			}
			got := b.uplink(rxpks(strings.Replace(doc, c.old, c.new, 1)))
			if len(got) != 1 {
				t.Fatalf("%d frames", len(got))
			}
			if diff := cmp.Diff(c.want, c.check(got[0])); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBase64WithAndWithoutPadding(t *testing.T) {
	for n := 12; n <= 255; n++ {
		phy := append([]byte{}, dataUp...)
		for len(phy) < n {
			phy = append(phy, byte(len(phy)*7))
		}
		for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding} {
			b := newBench(t)
			got := b.uplink(rxpks(fmt.Sprintf(`{"freq":868.1,"datr":"SF7BW125","size":%d,"data":"%s"}`, n, enc.EncodeToString(phy))))
			if len(got) != 1 || string(got[0].PHYPayload) != string(phy) {
				t.Fatalf("%d bytes: got %v", n, got)
			}
		}
	}
}

func TestFrequenciesAreRoundedToHz(t *testing.T) {
	var p rxpk
	body, _ := strings.CutSuffix(strings.TrimPrefix(rxpkJSON(dataUp), "{"), "}")
	rest := strings.Replace(body, `"freq":868.1,`, "", 1)
	check := func(text string, hz uint64) {
		v, _ := scan([]byte(`{"freq":` + text + "," + rest + "}"))
		if reason := p.parse(v, noon); reason != "" || p.freq != hz {
			t.Fatalf("freq %s: got %d %s, want %d", text, p.freq, reason, hz)
		}
	}
	for hz := uint64(137_000_000); hz <= 1_020_000_000; hz += 12_500 {
		mhz := float64(hz) / 1e6
		check(strconv.FormatFloat(mhz, 'f', 6, 64), hz)
		check(string(appendMHz(nil, hz)), hz)
	}
	for hz := uint64(2_400_000_000); hz <= 2_500_000_000; hz += 100_000 {
		check(string(appendMHz(nil, hz)), hz)
	}
	check("868.1000000001", 868100000)
	check("868.0999999999", 868100000)
}

func TestOneReceptionForEachAntenna(t *testing.T) {
	b := newBench(t)
	got := b.uplink(rxpks(strings.Replace(rxpkJSON(dataUp), `"lsnr":5.5,"rssi":-35`,
		`"aesk":7,"rsig":[{"ant":0,"chan":7,"rssic":-111,"rssis":-113,"rssisd":2,"lsnr":-6.2,"etime":"VkQmYkTWMSiJKKvqLXE8Rw","ftime":17,"foff":-5},{"ant":1,"rssic":-99,"lsnr":4}]`, 1)))
	if len(got) != 1 || len(got[0].Rx) != 2 {
		t.Fatalf("got %+v", got)
	}
	first, second := got[0].Rx[0], got[0].Rx[1]
	if first.AntennaIndex != 0 || first.ChannelIndex != 7 || first.RSSI != -111 || first.ChannelRSSI != -111 || *first.SignalRSSI != -113 || first.SNR != -6.2 ||
		len(first.EncryptedFineTime) != 16 || first.EncryptedFineTimeKey != "7" || first.FineTimestamp != 17 || first.FrequencyOffset != -5 || first.RSSIStandardDeviation != 2 {
		t.Errorf("first antenna: %+v", first)
	}
	if second.AntennaIndex != 1 || second.ChannelIndex != 1 || second.RSSI != -99 || second.SignalRSSI != nil || second.SNR != 4 || second.RSSIStandardDeviation != 0 || second.HasFineTimestamp || second.EncryptedFineTimeKey != "" {
		t.Errorf("second antenna: %+v", second)
	}
	if up, ok := parseUplinkToken(second.UplinkToken); !ok || up.antenna != 1 || up.tmst != 1000 {
		t.Errorf("token of the second antenna: %+v", up)
	}
	if got := b.uplink(rxpks(strings.Replace(rxpkJSON(dataUp), `"rssi"`, `"rsig":[],"rssi"`, 1))); len(got) != 1 || len(got[0].Rx) != 1 || got[0].Rx[0].RSSI != -35 {
		t.Errorf("empty rsig: %+v", got)
	}
	many := strings.Repeat(`{"ant":1},`, 100) + `{"ant":1}`
	if got := b.uplink(rxpks(strings.Replace(rxpkJSON(dataUp), `"rssi"`, `"rsig":[`+many+`],"rssi"`, 1))); len(got) != 1 || len(got[0].Rx) != maxAntennas {
		t.Errorf("101 antennas: %d receptions", len(got[0].Rx))
	}
}

func TestRxpkThatAreNoUplinksAreDroppedWithAReason(t *testing.T) {
	doc := rxpkJSON(dataUp)
	phy := func(change func([]byte) []byte) string { return rxpkJSON(change(append([]byte{}, dataUp...))) }
	for name, c := range map[string]struct{ rxpk, want string }{
		"CRC":                  {strings.Replace(doc, `"stat":1`, `"stat":-1`, 1), dropCRC},
		"CRC without the rest": {`{"stat":-1}`, dropCRC},
		"no object":            {`7`, dropJSON},
		"no JSON":              {`{"tmst" 5}`, dropJSON},
		"freq missing":         {strings.Replace(doc, `"freq":868.1,`, ``, 1), dropFrequency},
		"freq 0":               {strings.Replace(doc, `868.1`, `0`, 1), dropFrequency},
		"freq negative":        {strings.Replace(doc, `868.1`, `-868.1`, 1), dropFrequency},
		"freq in Hz":           {strings.Replace(doc, `868.1`, `868100000`, 1), dropFrequency},
		"freq nan":             {strings.Replace(doc, `868.1`, `nan`, 1), dropFrequency},
		"datr missing":         {strings.Replace(doc, `"datr":"SF7BW125",`, ``, 1), dropDataRate},
		"SF 0":                 {strings.Replace(doc, `SF7`, `SF0`, 1), dropDataRate},
		"SF 13":                {strings.Replace(doc, `SF7`, `SF13`, 1), dropDataRate},
		"SF without BW":        {strings.Replace(doc, `SF7BW125`, `SF7`, 1), dropDataRate},
		"BW 0":                 {strings.Replace(doc, `BW125`, `BW0`, 1), dropDataRate},
		"LORA with a number":   {strings.Replace(doc, `"SF7BW125"`, `50000`, 1), dropDataRate},
		"FSK with SF":          {strings.Replace(doc, `LORA`, `FSK`, 1), dropDataRate},
		"FSK of 0 bit/s":       {strings.Replace(doc, `"modu":"LORA","datr":"SF7BW125"`, `"modu":"FSK","datr":0`, 1), dropDataRate},
		"LR-FHSS without CW":   {strings.Replace(doc, `"modu":"LORA","datr":"SF7BW125"`, `"modu":"LR-FHSS","datr":"M0"`, 1), dropDataRate},
		"unknown modulation":   {strings.Replace(doc, `LORA`, `MORSE`, 1), dropDataRate},
		"data missing":         {`{"freq":868.1,"datr":"SF7BW125"}`, dropData},
		"data empty":           {`{"freq":868.1,"datr":"SF7BW125","size":0,"data":""}`, dropData},
		"data no base64":       {`{"freq":868.1,"datr":"SF7BW125","data":"!!!!"}`, dropData},
		"size too large":       {strings.Replace(doc, `"size":12`, `"size":13`, 1), dropSize},
		"size too small":       {strings.Replace(doc, `"size":12`, `"size":11`, 1), dropSize},
		"256 bytes":            {rxpkJSON(append([]byte{0x40}, make([]byte, 255)...)), dropLength},
		"11 bytes":             {rxpkJSON(dataUp[:11]), dropLength},
		"one byte":             {rxpkJSON(dataUp[:1]), dropLength},
		"join-request of 22":   {rxpkJSON(joinRequest[:22]), dropLength},
		"FOpts beyond the end": {phy(func(b []byte) []byte { b[5] = 0x0f; return b }), dropLength},
		"join-accept":          {phy(func(b []byte) []byte { b[0] = 0x20; return b }), dropNotUplink},
		"downlink":             {phy(func(b []byte) []byte { b[0] = 0x60; return b }), dropNotUplink},
		"proprietary":          {phy(func(b []byte) []byte { b[0] = 0xe0; return b }), dropNotUplink},
		"major version 1":      {phy(func(b []byte) []byte { b[0] = 0x41; return b }), dropNotUplink},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			// One bad rxpk must not sink the others of its datagram.
			got := b.uplink(rxpks(rxpkJSON(dataUp), c.rxpk, rxpkJSON(joinRequest)))
			if len(got) != 2 || string(got[0].PHYPayload) != string(dataUp) || string(got[1].PHYPayload) != string(joinRequest) {
				t.Errorf("%d frames went through, want the first and the last", len(got))
			}
			if n := b.framesDroppedFor(c.want); n != 1 {
				t.Errorf("dropped as %q %d times, want once", c.want, n)
			}
		})
	}
}

func TestBodiesThatAreNotLegibleGiveWhatIs(t *testing.T) {
	doc := rxpkJSON(dataUp)
	for name, c := range map[string]struct {
		body                   string
		frames, datagram, rxpk int
	}{
		"nothing":           {``, 0, 1, 0},
		"no JSON":           {`hello`, 0, 1, 0},
		"array":             {`[]`, 0, 1, 0},
		"empty object":      {`{}`, 0, 0, 0},
		"NUL behind":        {rxpks(doc) + "\x00", 1, 0, 0},
		"blank before":      {"\r\n " + rxpks(doc), 1, 0, 0},
		"rxpk not in list":  {`{"rxpk":` + doc + `}`, 1, 0, 0},
		"rxpk null":         {`{"rxpk":null}`, 0, 0, 0},
		"rxpk a number":     {`{"rxpk":5}`, 0, 0, 1},
		"cut in the second": {`{"rxpk":[` + doc + `,{"tmst":5,"da`, 1, 1, 2},
		"cut behind it":     {`{"rxpk":[` + doc, 1, 1, 1},
		"comma missing":     {`{"rxpk":[` + doc + doc + `]}`, 1, 0, 1},
		"deep nesting":      {`{"x":` + strings.Repeat("[", 30000) + strings.Repeat("]", 30000) + `,"rxpk":[` + doc + `]}`, 1, 0, 0},
		"rxpk twice":        {`{"rxpk":[` + doc + `],"rxpk":[` + doc + `]}`, 2, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			got := len(b.uplink(c.body))
			rxpk := b.framesDroppedFor(dropJSON)
			if datagram := b.dropped(dropBody); got != c.frames || datagram != c.datagram || rxpk != c.rxpk {
				t.Errorf("%d frames, %d datagrams and %d rxpk dropped; want %d, %d and %d", got, datagram, rxpk, c.frames, c.datagram, c.rxpk)
			}
		})
	}
}

func TestRxpkAreBoundedInNumber(t *testing.T) {
	b := newBench(t)
	list := make([]string, maxRxpk+10)
	for i := range list {
		list[i] = rxpkJSON(dataUp)
	}
	if got := b.uplink(rxpks(list...)); len(got) != maxRxpk || b.framesDroppedFor(dropTooMany) != 1 {
		t.Errorf("%d frames of %d, want %d", len(got), len(list), maxRxpk)
	}
}

func TestFieldsOfStat(t *testing.T) {
	b := newBench(t)
	b.uplink(`{"stat":{"time":"2026-03-04 11:59:28 GMT","lati":46.24,"long":3.2523,"alti":145,"rxnb":2,"rxok":1,"rxfw":1,"ackr":100.0,"dwnb":3,"txnb":2,
		"temp":23.5,"pfrm":"Kerlink","hal":"5.0.1","fpga":31,"desc":"on the \"roof\"","mail":"","lmok":null,"huge":1e999}}`)
	want := messages.GatewayStatus{
		GatewayEUI: gateway, ReceivedAt: noon, Time: time.Date(2026, 3, 4, 11, 59, 28, 0, time.UTC),
		Location:   &messages.Location{Latitude: 46.24, Longitude: 3.2523, Altitude: 145, Source: "SOURCE_GPS"},
		RxReceived: 2, RxOK: 1, RxForwarded: 1, AckRatio: 100, TxReceived: 3, TxEmitted: 2,
		Versions: map[string]string{"pfrm": "Kerlink", "hal": "5.0.1", "fpga": "31", "desc": `on the "roof"`}, Metrics: map[string]float64{"temp": 23.5},
	}
	if diff := cmp.Diff(want, receiveOrFail(t, b.sink.statuses)); diff != "" {
		t.Error(diff)
	}
	if c, ok := b.Gateway(gateway); !ok || c.LastStatus == nil || c.LastStatus.RxReceived != 2 {
		t.Errorf("connection %+v", c)
	}
}

func TestStatWithoutAPlaceOrWithLies(t *testing.T) {
	for name, stat := range map[string]string{
		"no GPS":          `{"rxnb":1}`,
		"0, 0":            `{"lati":0,"long":0.0,"alti":0}`,
		"beyond the pole": `{"lati":91,"long":3}`,
		"nan":             `{"lati":nan,"long":3}`,
		"latitude alone":  `{"lati":46}`,
		"in space":        `{"lati":46,"long":3,"alti":1e9}`,
	} {
		b := newBench(t)
		b.uplink(`{"stat":` + stat + `}`)
		if st := receiveOrFail(t, b.sink.statuses); st.Location != nil {
			t.Errorf("%s: location %+v", name, st.Location)
		}
	}
	b := newBench(t)
	b.uplink(`{"stat":{"rxnb":-1,"rxok":99999999999,"ackr":"nan","time":"soon"}}`)
	if diff := cmp.Diff(messages.GatewayStatus{GatewayEUI: gateway, ReceivedAt: noon}, receiveOrFail(t, b.sink.statuses)); diff != "" {
		t.Error(diff)
	}
}

func TestStatExtrasAreBounded(t *testing.T) {
	var s strings.Builder
	s.WriteString(`{"stat":{"rxnb":1`)
	for i := range 200 {
		fmt.Fprintf(&s, `,"n%d":%d,"t%d":"x"`, i, i, i)
	}
	s.WriteString(`,"` + strings.Repeat("k", 100) + `":1}}`)
	b := newBench(t)
	b.uplink(s.String())
	if st := receiveOrFail(t, b.sink.statuses); len(st.Metrics) != 32 || len(st.Versions) != 32 {
		t.Errorf("%d numbers and %d texts kept, want 32 of each", len(st.Metrics), len(st.Versions))
	}
}

func TestStatAndRxpkInOneDatagram(t *testing.T) {
	b := newBench(t)
	if got := b.uplink(`{"stat":[{"rxnb":1},7],"rxpk":[` + rxpkJSON(dataUp) + `]}`); len(got) != 1 || len(b.sink.statuses) != 1 || b.dropped(dropBody) != 1 {
		t.Errorf("%d frames, %d statuses, %d dropped; want one of each", len(got), len(b.sink.statuses), b.dropped(dropBody))
	}
}
