package simulator

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/brocaar/lorawan"

	"lorikeet/messages"
)

type hexBytes []byte

func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

func (h hexBytes) key() messages.Key { return messages.Key(h) }
func (h hexBytes) uint() (n uint32) {
	for _, b := range h {
		n = n<<8 | uint32(b)
	}
	return n
}

type vectors struct {
	Data []struct {
		Source     string   `json:"source"`
		PHYPayload hexBytes `json:"phy_payload"`
		Uplink     bool     `json:"uplink"`
		NwkSKey    hexBytes `json:"nwk_s_key"`
		AppSKey    hexBytes `json:"app_s_key"`
		DevAddr    hexBytes `json:"dev_addr"`
		FCnt       uint32   `json:"f_cnt"`
		FPort      int      `json:"f_port"`
		Payload    hexBytes `json:"payload"`
	} `json:"data"`
	JoinRequests []struct {
		PHYPayload hexBytes `json:"phy_payload"`
		AppKey     hexBytes `json:"app_key"`
		JoinEUI    hexBytes `json:"join_eui"`
		DevEUI     hexBytes `json:"dev_eui"`
		DevNonce   hexBytes `json:"dev_nonce"`
	} `json:"join_requests"`
	JoinAccepts []struct {
		PHYPayload hexBytes `json:"phy_payload"`
		AppKey     hexBytes `json:"app_key"`
		DevNonce   hexBytes `json:"dev_nonce"`
		JoinNonce  hexBytes `json:"join_nonce"`
		NetID      hexBytes `json:"net_id"`
		DevAddr    hexBytes `json:"dev_addr"`
		NwkSKey    hexBytes `json:"nwk_s_key"`
		AppSKey    hexBytes `json:"app_s_key"`
		CFList     hexBytes `json:"cf_list"`
	} `json:"join_accepts"`
	SessionKeys []struct {
		AppKey    hexBytes `json:"app_key"`
		NetID     hexBytes `json:"net_id"`
		JoinNonce hexBytes `json:"join_nonce"`
		DevNonce  hexBytes `json:"dev_nonce"`
		NwkSKey   hexBytes `json:"nwk_s_key"`
		AppSKey   hexBytes `json:"app_s_key"`
	} `json:"session_keys"`
}

func readVectors(t *testing.T) (v vectors) {
	t.Helper()
	b, err := os.ReadFile("../../../messages/frame/testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// TestPublishedUplinks builds each published uplink with the MAC of a device and wants the published bytes.
func TestPublishedUplinks(t *testing.T) {
	t.Parallel()
	for _, v := range readVectors(t).Data {
		if !v.Uplink {
			continue
		}
		c := newUplinkCrypto(v.NwkSKey.key(), v.AppSKey.key())
		addr := messages.DevAddr(v.DevAddr)
		b := append([]byte(nil), v.PHYPayload[:8]...)
		b = append(b, byte(v.FPort))
		b = append(b, v.Payload...)
		c.crypt(byte(v.FPort), addr, v.FCnt, b[9:])
		b = c.appendMIC(addr, v.FCnt, b)
		if hex.EncodeToString(b) != hex.EncodeToString(v.PHYPayload) {
			t.Errorf("%s:\ngot  %x\nwant %x", v.Source, b, []byte(v.PHYPayload))
		}
	}
}

// TestPublishedDownlink lets a device receive the published downlink.
func TestPublishedDownlink(t *testing.T) {
	t.Parallel()
	n := 0
	for _, v := range readVectors(t).Data {
		if v.Uplink {
			continue
		}
		n++
		m := newABP(t, Session{DevAddr: messages.DevAddr(v.DevAddr), NwkSKey: v.NwkSKey.key(), AppSKey: v.AppSKey.key()}, EU868)
		up, err := m.Uplink(Uplink{FPort: 1, Confirmed: true})
		if err != nil {
			t.Fatal(err)
		}
		d, err := m.Receive(Reception{PHYPayload: v.PHYPayload, Frequency: up.Frequency, DataRate: up.DataRate, After: []Elapsed{{up.Sequence, time.Second}}})
		if err != nil {
			t.Fatal(err)
		}
		if d.FCnt != v.FCnt || !d.Ack || m.WaitsForAck() {
			t.Errorf("got %+v", d)
		}
	}
	if n == 0 {
		t.Error("no downlink among the vectors")
	}
}

func TestPublishedJoinRequests(t *testing.T) {
	t.Parallel()
	for _, v := range readVectors(t).JoinRequests {
		m, err := NewMAC(MACConfig{DevEUI: messages.EUI64(v.DevEUI), JoinEUI: messages.EUI64(v.JoinEUI), AppKey: v.AppKey.key(), Region: EU868,
			State: State{DevNonce: v.DevNonce.uint()}})
		if err != nil {
			t.Fatal(err)
		}
		r, err := m.JoinRequest()
		if err != nil {
			t.Fatal(err)
		}
		if hex.EncodeToString(r.PHYPayload) != hex.EncodeToString(v.PHYPayload) {
			t.Errorf("got %x, want %x", r.PHYPayload, []byte(v.PHYPayload))
		}
	}
}

func TestPublishedJoinAccepts(t *testing.T) {
	t.Parallel()
	for _, v := range readVectors(t).JoinAccepts {
		m, err := NewMAC(MACConfig{AppKey: v.AppKey.key(), Region: EU868, State: State{DevNonce: v.DevNonce.uint()}})
		if err != nil {
			t.Fatal(err)
		}
		r, err := m.JoinRequest()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Receive(Reception{PHYPayload: v.PHYPayload, Frequency: r.Frequency, DataRate: r.DataRate, After: []Elapsed{{r.Sequence, joinDelay1}}}); err != nil {
			t.Fatal(err)
		}
		s := m.Session()
		if s.DevAddr != messages.DevAddr(v.DevAddr) {
			t.Errorf("DevAddr %s, want %x", s.DevAddr, []byte(v.DevAddr))
		}
		if len(v.NwkSKey) > 0 && (s.NwkSKey != v.NwkSKey.key() || s.AppSKey != v.AppSKey.key()) {
			t.Error("session keys differ from the published ones")
		}
		for i := range len(v.CFList) / 3 {
			want := uint32(v.CFList[3*i]) | uint32(v.CFList[3*i+1])<<8 | uint32(v.CFList[3*i+2])<<16
			if got := m.channels[3+i].frequency; got != 100*want {
				t.Errorf("channel %d at %d Hz, want %d", 3+i, got, 100*want)
			}
		}
	}
}

func TestPublishedSessionKeys(t *testing.T) {
	t.Parallel()
	for _, v := range readVectors(t).SessionKeys {
		nwk, app := deriveKeys(v.AppKey.key(), v.JoinNonce.uint(), [3]byte(v.NetID), uint16(v.DevNonce.uint()))
		if nwk != v.NwkSKey.key() || app != v.AppSKey.key() {
			t.Errorf("got %s %s, want %x %x", nwk.Hex(), app.Hex(), []byte(v.NwkSKey), []byte(v.AppSKey))
		}
	}
}

// FuzzUplinkAgainstLibrary compares the lean path with brocaar/lorawan.
func FuzzUplinkAgainstLibrary(f *testing.F) {
	f.Add([]byte("0123456789abcdef0123456789abcdef"), uint32(0x01020304), uint32(0x12345678), uint8(7), []byte("seventeen bytes.."))
	f.Add([]byte("0123456789abcdef0123456789abcdef"), uint32(0), uint32(0), uint8(0), []byte("0123456"))
	f.Add([]byte("0123456789abcdef0123456789abcdef"), uint32(1<<32-1), uint32(1<<32-1), uint8(223), []byte(strings.Repeat("x", 242)))
	f.Fuzz(func(t *testing.T, keys []byte, addr, fCnt uint32, fPort uint8, payload []byte) {
		if len(keys) < 32 || len(payload) > 242 || len(payload) == 0 {
			return
		}
		nwk, app := messages.Key(keys[:16]), messages.Key(keys[16:32])
		var a messages.DevAddr
		binary.BigEndian.PutUint32(a[:], addr)
		c := newUplinkCrypto(nwk, app)
		b := []byte{0x40, a[3], a[2], a[1], a[0], 0, byte(fCnt), byte(fCnt >> 8), fPort}
		b = append(b, payload...)
		c.crypt(fPort, a, fCnt, b[9:])
		b = c.appendMIC(a, fCnt, b)

		var phy lorawan.PHYPayload
		if err := phy.UnmarshalBinary(b); err != nil {
			t.Fatal(err)
		}
		mac := phy.MACPayload.(*lorawan.MACPayload)
		mac.FHDR.FCnt = fCnt
		if ok, err := phy.ValidateUplinkDataMIC(lorawan.LoRaWAN1_0, 0, 0, 0, lorawan.AES128Key(nwk), lorawan.AES128Key(nwk)); err != nil || !ok {
			t.Fatalf("the library does not accept the MIC: %v", err)
		}
		key := app
		if fPort == 0 {
			key = nwk
		}
		clear, err := lorawan.EncryptFRMPayload(lorawan.AES128Key(key), true, lorawan.DevAddr(a), fCnt, append([]byte(nil), b[9:len(b)-4]...))
		if err != nil || string(clear) != string(payload) {
			t.Fatalf("the library reads %x, want %x (%v)", clear, payload, err)
		}
	})
}
