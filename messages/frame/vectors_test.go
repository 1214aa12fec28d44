package frame

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"lorikeet/messages"
)

// TestPublishedVectors checks the codec against frames that others published (sources in the file), so that one mistake can't hide in the server
// and in its simulated devices.
func TestPublishedVectors(t *testing.T) {
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Data []struct {
			Source   string `json:"source"`
			PHY      string `json:"phy_payload"`
			WrongMIC string `json:"wrong_mic_phy_payload"`
			Uplink   bool   `json:"uplink"`
			NwkSKey  string `json:"nwk_s_key"`
			AppSKey  string `json:"app_s_key"`
			DevAddr  string `json:"dev_addr"`
			FCnt     uint32 `json:"f_cnt"`
			FPort    int    `json:"f_port"`
			Payload  string `json:"payload"`
		} `json:"data"`
		JoinRequests []struct {
			PHY      string `json:"phy_payload"`
			WrongMIC string `json:"wrong_mic_phy_payload"`
			AppKey   string `json:"app_key"`
			JoinEUI  string `json:"join_eui"`
			DevEUI   string `json:"dev_eui"`
			DevNonce string `json:"dev_nonce"`
		} `json:"join_requests"`
		JoinAccepts []struct {
			AppKey    string `json:"app_key"`
			JoinNonce string `json:"join_nonce"`
			NetID     string `json:"net_id"`
			DevNonce  string `json:"dev_nonce"`
			NwkSKey   string `json:"nwk_s_key"`
			AppSKey   string `json:"app_s_key"`
		} `json:"join_accepts"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Data) < 4 || len(v.JoinRequests) < 2 || len(v.JoinAccepts) < 1 {
		t.Fatal("vectors are missing")
	}
	for _, c := range v.Data {
		phy, addr := unhex(t, c.PHY), messages.DevAddr(unhex(t, c.DevAddr))
		nwk, app := NewCipher(key(t, c.NwkSKey)), NewCipher(key(t, c.AppSKey))
		d, err := ParseData(phy)
		if err != nil || d.DevAddr != addr || d.FCnt16 != uint16(c.FCnt) || int(d.FPort) != c.FPort {
			t.Errorf("%s: got %+v, %v", c.Source, d, err)
			continue
		}
		if mic := nwk.MIC(!c.Uplink, addr, c.FCnt, phy[:len(phy)-4]); hex.EncodeToString(mic[:]) != c.PHY[len(c.PHY)-8:] {
			t.Errorf("%s: MIC %x", c.Source, mic)
		}
		if c.WrongMIC != "" && nwk.CheckUp(addr, c.FCnt, unhex(t, c.WrongMIC)) {
			t.Errorf("%s: wrong MIC accepted", c.Source)
		}
		if got := app.Crypt(!c.Uplink, addr, c.FCnt, d.FRMPayload); hex.EncodeToString(got) != c.Payload {
			t.Errorf("%s: payload %x, want %s", c.Source, got, c.Payload)
		}
	}
	for _, c := range v.JoinRequests {
		j, err := ParseJoin(unhex(t, c.PHY))
		want := Join{JoinEUI: messages.EUI64(unhex(t, c.JoinEUI)), DevEUI: messages.EUI64(unhex(t, c.DevEUI)), DevNonce: binary.BigEndian.Uint16(unhex(t, c.DevNonce))}
		if err != nil || j != want || !NewCipher(key(t, c.AppKey)).CheckJoin(unhex(t, c.PHY)) {
			t.Errorf("%s: got %+v, %v", c.PHY, j, err)
		}
		if c.WrongMIC != "" && NewCipher(key(t, c.AppKey)).CheckJoin(unhex(t, c.WrongMIC)) {
			t.Errorf("%s: wrong MIC accepted", c.PHY)
		}
	}
	for _, c := range v.JoinAccepts {
		if c.NwkSKey == "" {
			continue
		}
		n := unhex(t, c.JoinNonce)
		nwk, app := SessionKeys(key(t, c.AppKey), uint32(n[0])<<16|uint32(n[1])<<8|uint32(n[2]), [3]byte(unhex(t, c.NetID)), binary.BigEndian.Uint16(unhex(t, c.DevNonce)))
		if nwk != key(t, c.NwkSKey) || app != key(t, c.AppSKey) {
			t.Errorf("keys %s %s, want %s %s", nwk.Hex(), app.Hex(), c.NwkSKey, c.AppSKey)
		}
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func key(t *testing.T, s string) messages.Key {
	t.Helper()
	return messages.Key(unhex(t, s))
}
