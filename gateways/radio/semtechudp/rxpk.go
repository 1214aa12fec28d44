package semtechudp

import (
	"bytes"
	"encoding/base64"
	"math"
	"time"

	"lorikeet/messages"
)

// Reasons for which an rxpk is dropped; labels of lorikeet_semtechudp_frames_dropped_total.
const (
	dropJSON      = "json"       // not legible
	dropCRC       = "crc"        // the packet forwarder says that the CRC is wrong
	dropFrequency = "frequency"  // missing or impossible
	dropDataRate  = "data_rate"  // missing or impossible
	dropData      = "data"       // missing or not base64
	dropSize      = "size"       // size is not the length of data
	dropLength    = "length"     // too short or too long for its MType
	dropNotUplink = "not_uplink" // a downlink of someone else, proprietary, or an unknown major version
	dropTooMany   = "too_many"   // more rxpk in one datagram than any concentrator gives
)

const (
	maxRxpk     = 256
	maxAntennas = 16
	maxPHY      = 255
)

// The Semtech protocol counts GPS time in milliseconds since 1980-01-06 without leap seconds; there were 18 when UTC last got one, in 2017.
var gpsEpoch = time.Date(1980, 1, 6, 0, 0, 0, 0, time.UTC)

const gpsLeap = 18 * time.Second

// rxpk is one received packet as the packet forwarder tells it, before it is known which radio gateway it is.
type rxpk struct {
	time, gpsTime time.Time
	tmst          uint32
	hasTmst       bool
	freq          uint64
	rfch, brd     uint32
	aesk          string
	crc           int64
	hpw           uint32
	dr            messages.DataRate
	phy           []byte
	antennas      [maxAntennas]antenna
	n             int
}

type antenna struct {
	index, channel uint32
	rssi, rssis    float32
	hasRSSI        bool
	hasRSSIS       bool
	rssisd         float32
	snr            float32
	foff           int64
	ftime          uint64
	hasFtime       bool
	etime          []byte
}

// rxpkParts are members that have a meaning only together with others.
type rxpkParts struct {
	modu, codr, data []byte
	datr, signals    value
	size             int64 // -1 if it is not told
}

// parse reads one element of the rxpk array; reason says why it is no uplink, or is empty. now bounds the clock of the radio gateway.
func (p *rxpk) parse(v value, now time.Time) (reason string) {
	*p = rxpk{crc: 1, n: 1}
	if v.kind != object {
		return dropJSON
	}
	parts := rxpkParts{size: -1}
	c := walk(v)
	for c.next() {
		if !p.antennas[0].member(&c) && !p.member(&c, now) {
			parts.member(&c)
		}
	}
	switch {
	case p.crc < 0:
		return dropCRC
	case c.bad:
		return dropJSON
	case p.freq == 0:
		return dropFrequency
	}
	var ok bool
	if p.dr, ok = parseDataRate(parts.modu, parts.datr, parts.codr); !ok {
		return dropDataRate
	}
	p.parseSignals(parts.signals)
	return p.parseData(parts.data, parts.size)
}

// member takes the members that stand for themselves.
func (p *rxpk) member(c *cursor, now time.Time) bool {
	switch string(c.key) {
	case "rssi":
		p.antennas[0].setRSSI(c.val)
	case "time":
		p.time = parseTime(c.val, now)
	case "tmms":
		if ms, ok := c.val.integer(); ok && ms > 0 {
			p.gpsTime = plausible(gpsEpoch.Add(time.Duration(min(ms, math.MaxInt64/int64(time.Millisecond)))*time.Millisecond-gpsLeap), now)
		}
	case "tmst":
		// Modulo 2^32: printed with %d it is negative in half of the cases.
		if n, ok := c.val.integer(); ok {
			p.tmst, p.hasTmst = uint32(n), true
		}
	case "freq":
		if f, ok := c.val.float(); ok && f > 0 && f < 4_000 { // more does not fit into 32 bits of Hz
			p.freq = uint64(math.Round(f * 1e6))
		}
	case "rfch":
		p.rfch = c.val.small()
	case "brd":
		p.brd = c.val.small()
	case "aesk":
		p.aesk, _ = c.val.label()
	case "stat":
		if n, ok := c.val.integer(); ok {
			p.crc = n
		}
	case "hpw":
		p.hpw = c.val.small()
	default:
		return false
	}
	return true
}

func (p *rxpkParts) member(c *cursor) {
	switch string(c.key) {
	case "modu":
		p.modu, _ = c.val.str()
	case "datr":
		p.datr = c.val
	case "codr":
		p.codr, _ = c.val.str()
	case "size":
		if n, ok := c.val.integer(); ok {
			p.size = n
		}
	case "data":
		p.data, _ = c.val.str()
	case "rsig":
		p.signals = c.val
	}
}

// parseSignals reads rsig: one element for each antenna, which takes the place of the values outside of it.
func (p *rxpk) parseSignals(v value) {
	if v.kind == absent {
		return
	}
	outer := p.antennas[0]
	n := 0
	for c := each(v); c.next() && n < maxAntennas; {
		if c.val.kind != object || c.val.cut {
			continue
		}
		a := antenna{channel: outer.channel}
		for m := walk(c.val); m.next(); {
			if !a.member(&m) && string(m.key) == "rssic" {
				a.setRSSI(m.val)
			}
		}
		p.antennas[n] = a
		n++
	}
	p.n = max(n, 1)
}

// member takes the members that rxpk and rsig have in common.
func (a *antenna) member(c *cursor) bool {
	switch string(c.key) {
	case "ant":
		a.index = c.val.small()
	case "chan":
		a.channel = c.val.small()
	case "lsnr":
		a.snr, _ = decibel(c.val)
	case "rssis":
		a.rssis, a.hasRSSIS = decibel(c.val)
	case "rssisd":
		a.rssisd, _ = decibel(c.val)
	case "foff":
		a.foff, _ = c.val.integer()
	case "ftime":
		if n, ok := c.val.integer(); ok && n >= 0 && n < 1e9 {
			a.ftime, a.hasFtime = uint64(n), true
		}
	case "etime":
		if b, ok := c.val.str(); ok && len(b) <= 64 {
			a.etime, _ = decodeBase64(b)
		}
	default:
		return false
	}
	return true
}

func (a *antenna) setRSSI(v value) { a.rssi, a.hasRSSI = decibel(v) }

// decibel refuses what no radio can measure, so that a lie does not win the choice of the radio gateway.
func decibel(v value) (float32, bool) {
	f, ok := v.float()
	if !ok || math.Abs(f) > 200 {
		return 0, false
	}
	return float32(f), true
}

func (p *rxpk) parseData(b64 []byte, size int64) (reason string) {
	if len(b64) > base64.StdEncoding.EncodedLen(maxPHY) {
		return dropLength
	}
	phy, ok := decodeBase64(b64)
	if !ok || len(phy) == 0 {
		return dropData
	}
	if size >= 0 && size != int64(len(phy)) {
		return dropSize
	}
	p.phy = phy
	return checkPHY(phy)
}

func decodeBase64(b []byte) ([]byte, bool) {
	b = bytes.TrimRight(b, "=")
	out := make([]byte, base64.RawStdEncoding.DecodedLen(len(b)))
	n, err := base64.RawStdEncoding.Decode(out, b)
	return out[:n], err == nil
}

// checkPHY says whether a PHYPayload can be a LoRaWAN uplink, by its MHDR and length alone (LoRaWAN 1.1 §4, §6.2).
func checkPHY(phy []byte) (reason string) {
	n := len(phy)
	if n > maxPHY {
		return dropLength
	}
	if phy[0]&0x03 != 0 {
		return dropNotUplink
	}
	var ok bool
	switch phy[0] >> 5 {
	case 0: // join-request
		ok = n == 23
	case 2, 4: // data: MHDR, FHDR with FOptsLen of FOpts, MIC
		ok = n >= 12 && n >= 12+int(phy[5]&0x0f)
	case 6: // rejoin-request of type 0 or 2, of type 1
		ok = n == 19 || n == 24
	default:
		return dropNotUplink
	}
	if !ok {
		return dropLength
	}
	return ""
}

// frame gives p as the frame radio gateway gw received.
func (p *rxpk) frame(gw *radioGateway, id string, location *messages.Location, at time.Time, correlationID string) messages.Frame {
	f := messages.Frame{
		PHYPayload: p.phy,
		Settings: messages.TxSettings{
			DataRate: p.dr, Frequency: p.freq, Timestamp: p.tmst, Time: p.time, EnableCRC: p.crc == 1,
		},
		Rx:            make([]messages.RxMetadata, p.n),
		ReceivedAt:    at,
		CorrelationID: correlationID,
	}
	for i := range f.Rx {
		a := &p.antennas[i]
		rx := messages.RxMetadata{
			GatewayID: id, GatewayEUI: gw.eui, AntennaIndex: a.index,
			Time: p.time, GPSTime: p.gpsTime, Timestamp: p.tmst,
			FineTimestamp: a.ftime, HasFineTimestamp: a.hasFtime,
			RSSI: a.rssi, ChannelRSSI: a.rssi, RSSIStandardDeviation: a.rssisd, SNR: a.snr,
			FrequencyOffset: a.foff, HoppingWidth: p.hpw, ChannelIndex: a.channel,
			Location: location, ReceivedAt: at, Board: p.brd, RFChain: p.rfch,
		}
		if len(a.etime) > 0 {
			rx.EncryptedFineTime, rx.EncryptedFineTimeKey = a.etime, p.aesk
		}
		if a.hasRSSIS {
			rssis := a.rssis
			rx.SignalRSSI = &rssis
			if !a.hasRSSI {
				rx.RSSI = rssis
			}
		}
		if p.hasTmst {
			rx.UplinkToken = uplinkToken{eui: gw.eui, tmst: p.tmst, antenna: uint8(a.index), board: uint8(p.brd), rfChain: uint8(p.rfch)}.bytes()
		}
		f.Rx[i] = rx
	}
	return f
}

// parseTime reads the time of an rxpk or a stat; zero if there is none or the radio gateway has no clock.
func parseTime(v value, now time.Time) time.Time {
	b, ok := v.str()
	if !ok || len(b) == 0 || len(b) > 40 {
		return time.Time{}
	}
	for _, layout := range [...]string{time.RFC3339Nano, "2006-01-02 15:04:05 MST", "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05"} {
		if t, err := time.Parse(layout, string(b)); err == nil {
			return plausible(t.UTC(), now)
		}
	}
	return time.Time{}
}

// plausible drops the time of a clock that was never set (1970, 1980, 2000) or runs far ahead.
func plausible(t, now time.Time) time.Time {
	if t.Year() < 2010 || t.After(now.Add(24*time.Hour)) {
		return time.Time{}
	}
	return t
}

// parseStatus reads stat. Members it does not know are kept: numbers as metrics, texts as versions, 32 of each at most.
func parseStatus(v value, eui messages.EUI64, at time.Time) (messages.GatewayStatus, bool) {
	st := messages.GatewayStatus{GatewayEUI: eui, ReceivedAt: at}
	if v.kind != object {
		return st, false
	}
	var lat, long, alt float64
	var hasLat, hasLong bool
	c := walk(v)
	for c.next() {
		switch string(c.key) {
		case "time":
			st.Time = parseTime(c.val, at)
		case "lati":
			lat, hasLat = c.val.float()
		case "long":
			long, hasLong = c.val.float()
		case "alti":
			alt, _ = c.val.float()
		case "rxnb":
			st.RxReceived = c.val.count()
		case "rxok":
			st.RxOK = c.val.count()
		case "rxfw":
			st.RxForwarded = c.val.count()
		case "dwnb":
			st.TxReceived = c.val.count()
		case "txnb":
			st.TxEmitted = c.val.count()
		case "ackr":
			st.AckRatio, _ = c.val.float()
		default:
			addExtra(&st, c.key, c.val)
		}
	}
	// 0, 0 is what a radio gateway without GPS says.
	if hasLat && hasLong && (lat != 0 || long != 0) && math.Abs(lat) <= 90 && math.Abs(long) <= 180 && math.Abs(alt) < 100_000 {
		st.Location = &messages.Location{Latitude: lat, Longitude: long, Altitude: int32(alt), Source: "SOURCE_GPS"}
	}
	return st, !c.bad
}

func (v value) count() uint32 {
	n, ok := v.integer()
	if !ok || n < 0 || n > math.MaxUint32 {
		return 0
	}
	return uint32(n)
}

func addExtra(st *messages.GatewayStatus, key []byte, v value) {
	const most = 32
	name, ok := value{kind: text, raw: key}.label()
	if !ok || len(name) > 32 {
		return
	}
	version := name == "hal" || name == "fpga" || name == "dsp" || name == "pfrm"
	if f, ok := v.float(); ok && v.kind == literal && !version {
		if len(st.Metrics) < most {
			if st.Metrics == nil {
				st.Metrics = make(map[string]float64)
			}
			st.Metrics[name] = f
		}
		return
	}
	if s, ok := v.label(); ok && (v.kind == text || version) && len(st.Versions) < most {
		if st.Versions == nil {
			st.Versions = make(map[string]string)
		}
		st.Versions[name] = s
	}
}
