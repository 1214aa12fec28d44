package simulator

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/brocaar/lorawan"

	"lorikeet/messages"
)

// fakeServer is a small network server on a real socket, made with brocaar/lorawan: it accepts joins, acknowledges, echoes.
type fakeServer struct {
	t       *testing.T
	conn    *net.UDPConn
	event   func(device, kind string, body map[string]any) // may be nil
	echo    bool                                           // answers each uplink with its payload
	lie     func(fCnt uint32) uint32                       // may change the FCntDown; nil: honest
	retry   bool                                           // sends in RX2 what the radio gateway refuses in RX1
	deaf    bool                                           // acknowledges frames and forgets them
	dropAll bool                                           // reads and says nothing

	mu        sync.Mutex
	queue     map[string][][]byte // downlinks by device id, FPort 1
	devices   map[messages.EUI64]Identity
	sessions  map[messages.DevAddr]*fakeSession
	pullAddr  map[messages.EUI64]netip.AddrPort
	pending   map[uint16]func() // by token: what to do when the radio gateway refuses
	token     uint16
	joinNonce uint32
	devNonces map[messages.EUI64]lorawan.DevNonce // the next
	txErrors  []string
	uplinks   int // frames with a good MIC, copies too
}

type fakeSession struct {
	id       Identity
	session  Session
	fCntDown uint32
	last     int64 // FCntUp
}

func startFake(t *testing.T, change func(*fakeServer), ids ...Identity) *fakeServer {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadBuffer(4 << 20)
	s := &fakeServer{t: t, conn: conn, devices: map[messages.EUI64]Identity{}, sessions: map[messages.DevAddr]*fakeSession{},
		pullAddr: map[messages.EUI64]netip.AddrPort{}, pending: map[uint16]func(){}, queue: map[string][][]byte{}, devNonces: map[messages.EUI64]lorawan.DevNonce{}}
	for _, id := range ids {
		s.add(id)
	}
	if change != nil {
		change(s)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.serve()
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return s
}

func (s *fakeServer) addr() string { return s.conn.LocalAddr().String() }

func (s *fakeServer) add(id Identity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.devices[id.DevEUI] = id
	if id.ABP != nil {
		s.sessions[id.ABP.DevAddr] = &fakeSession{id: id, session: *id.ABP, last: -1}
	}
}

func (s *fakeServer) serve() {
	b := make([]byte, 64<<10)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		s.mu.Lock()
		if n >= 12 && !s.dropAll {
			s.datagram(b[:n], from)
		}
		s.mu.Unlock()
	}
}

func (s *fakeServer) datagram(b []byte, from netip.AddrPort) {
	eui := messages.EUI64(b[4:12])
	switch b[3] {
	case pullData:
		s.pullAddr[eui] = from
		s.write([]byte{b[0], b[1], b[2], pullAck}, from)
	case txAck:
		var m struct {
			Ack struct {
				Error string `json:"error"`
			} `json:"txpk_ack"`
		}
		token := binary.BigEndian.Uint16(b[1:])
		retry := s.pending[token]
		delete(s.pending, token)
		if err := json.Unmarshal(b[12:], &m); err != nil {
			s.t.Errorf("TX_ACK %q: %v", b[12:], err)
		}
		if m.Ack.Error != "NONE" {
			s.txErrors = append(s.txErrors, m.Ack.Error)
			if s.retry && retry != nil {
				retry()
			}
		}
	case pushData:
		s.write([]byte{b[0], b[1], b[2], pushAck}, from)
		var m struct {
			Rxpk []fakeRxpk `json:"rxpk"`
		}
		if err := json.Unmarshal(b[12:], &m); err != nil {
			s.t.Errorf("PUSH_DATA %q: %v", b[12:], err)
		}
		for _, rx := range m.Rxpk {
			if s.deaf {
				continue
			}
			s.frame(eui, rx)
		}
	}
}

type fakeRxpk struct {
	Tmst uint32  `json:"tmst"`
	Freq float64 `json:"freq"`
	Datr string  `json:"datr"`
	Size int     `json:"size"`
	Data []byte  `json:"data"`
	Stat int     `json:"stat"`
	RSSI *int    `json:"rssi"`
}

func (s *fakeServer) write(b []byte, to netip.AddrPort) {
	if _, err := s.conn.WriteToUDPAddrPort(b, to); err != nil {
		s.t.Logf("send: %v", err)
	}
}

func (s *fakeServer) frame(eui messages.EUI64, rx fakeRxpk) {
	var phy lorawan.PHYPayload
	if err := phy.UnmarshalBinary(rx.Data); err != nil || len(rx.Data) != rx.Size || rx.Stat != 1 || rx.RSSI == nil {
		s.t.Errorf("rxpk %+v: %v", rx, err)
		return
	}
	switch p := phy.MACPayload.(type) {
	case *lorawan.JoinRequestPayload:
		s.join(eui, rx, &phy, p)
	case *lorawan.MACPayload:
		s.data(eui, rx, &phy, p)
	}
}

func (s *fakeServer) join(eui messages.EUI64, rx fakeRxpk, phy *lorawan.PHYPayload, p *lorawan.JoinRequestPayload) {
	id, known := s.devices[messages.EUI64(p.DevEUI)]
	if ok, err := phy.ValidateUplinkJoinMIC(lorawan.AES128Key(id.AppKey)); !known || err != nil || !ok {
		s.t.Errorf("join-request of %s: known %v, MIC %v, %v", p.DevEUI, known, ok, err)
		return
	}
	if next, seen := s.devNonces[id.DevEUI]; seen && p.DevNonce < next {
		return // a copy, or a nonce of the past
	}
	s.devNonces[id.DevEUI] = p.DevNonce + 1
	s.joinNonce++
	var addr messages.DevAddr
	binary.BigEndian.PutUint32(addr[:], s.joinNonce)
	b, err := encodeJoinAccept(id.AppKey, lorawan.JoinAcceptPayload{JoinNonce: lorawan.JoinNonce(s.joinNonce), DevAddr: lorawan.DevAddr(addr), RXDelay: 1})
	if err != nil {
		s.t.Error(err)
		return
	}
	nwk, app := deriveKeys(id.AppKey, s.joinNonce, [3]byte{}, uint16(p.DevNonce))
	s.sessions[addr] = &fakeSession{id: id, session: Session{DevAddr: addr, NwkSKey: nwk, AppSKey: app}, last: -1}
	s.publish(id, "join", map[string]any{"join_accept": map[string]any{}}, addr)
	s.send(eui, rx, b, 5_000_000)
}

func (s *fakeServer) data(eui messages.EUI64, rx fakeRxpk, phy *lorawan.PHYPayload, p *lorawan.MACPayload) {
	d := s.sessions[messages.DevAddr(p.FHDR.DevAddr)]
	if d == nil {
		s.t.Errorf("uplink of unknown %s", p.FHDR.DevAddr)
		return
	}
	nwk := lorawan.AES128Key(d.session.NwkSKey)
	if ok, err := phy.ValidateUplinkDataMIC(lorawan.LoRaWAN1_0, 0, 0, 0, nwk, nwk); err != nil || !ok {
		s.t.Errorf("MIC of %s: %v %v", d.id.DeviceID, ok, err)
		return
	}
	s.uplinks++
	isNew := int64(p.FHDR.FCnt) > d.last
	confirmed := phy.MHDR.MType == lorawan.ConfirmedDataUp
	if isNew {
		d.last = int64(p.FHDR.FCnt)
		s.publish(d.id, "up", map[string]any{"uplink_message": map[string]any{"f_cnt": p.FHDR.FCnt}}, d.session.DevAddr)
	}
	queued := s.queue[d.id.DeviceID]
	if !isNew && !confirmed || !confirmed && !s.echo && len(queued) == 0 {
		return
	}
	if err := phy.DecryptFRMPayload(lorawan.AES128Key(d.session.AppSKey)); err != nil {
		s.t.Error(err)
		return
	}
	answer := down{fCnt: d.fCntDown, ack: confirmed}
	if s.echo && p.FPort != nil {
		answer.fPort, answer.payload = *p.FPort, p.FRMPayload[0].(*lorawan.DataPayload).Bytes
	}
	if len(queued) > 0 {
		answer.fPort, answer.payload = 1, queued[0]
		s.queue[d.id.DeviceID] = queued[1:]
	}
	if s.lie != nil {
		answer.fCnt = s.lie(answer.fCnt)
	}
	d.fCntDown++
	b, err := answer.encode(d.session)
	if err != nil {
		s.t.Error(err)
		return
	}
	s.send(eui, rx, b, 1_000_000)
}

// send gives b to the radio gateway for RX1, and for RX2 if that is refused.
func (s *fakeServer) send(eui messages.EUI64, rx fakeRxpk, b []byte, delay uint32) {
	s.pullResp(eui, b, rx.Tmst+delay, rx.Freq, rx.Datr, func() { s.pullResp(eui, b, rx.Tmst+delay+1_000_000, 869.525, "SF12BW125", nil) })
}

func (s *fakeServer) pullResp(eui messages.EUI64, b []byte, tmst uint32, freq float64, datr string, refused func()) {
	s.token++
	s.pending[s.token] = refused
	msg := []byte{2, 0, 0, pullResp}
	binary.BigEndian.PutUint16(msg[1:], s.token)
	msg = fmt.Appendf(msg, `{"txpk":{"tmst":%d,"freq":%.6f,"rfch":0,"powe":14,"modu":"LORA","datr":%q,"codr":"4/5","ipol":true,"size":%d,"data":%q}}`,
		tmst, math.Round(freq*1e6)/1e6, datr, len(b), base64.StdEncoding.EncodeToString(b))
	s.write(msg, s.pullAddr[eui])
}

func (s *fakeServer) publish(id Identity, kind string, body map[string]any, addr messages.DevAddr) {
	if s.event != nil {
		body["end_device_ids"] = map[string]any{"device_id": id.DeviceID, "dev_addr": addr}
		s.event(id.DeviceID, kind, body)
	}
}

func (s *fakeServer) seen() (uplinks int, txErrors []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.uplinks, append([]string(nil), s.txErrors...)
}
