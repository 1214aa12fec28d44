package simulator

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/brocaar/lorawan/airtime"
)

// airTime is that of a LoRa downlink; zero for what can't be parsed.
func airTime(p TxPacket) time.Duration {
	var sf, bw int
	if _, err := fmt.Sscanf(p.DataRate, "SF%dBW%d", &sf, &bw); err != nil || bw == 0 {
		return 0
	}
	d, err := airtime.CalculateLoRaAirtime(len(p.PHYPayload), sf, bw, 8, airtime.CodingRate45, true, sf >= 11 && bw == 125)
	if err != nil {
		return 0
	}
	return d
}

func parseTxpk(b []byte) (TxPacket, error) {
	var m struct {
		Txpk *struct {
			Imme bool            `json:"imme"`
			Tmst *uint32         `json:"tmst"`
			Freq float64         `json:"freq"`
			Modu string          `json:"modu"`
			Datr json.RawMessage `json:"datr"`
			Ipol bool            `json:"ipol"`
			Size int             `json:"size"`
			Data string          `json:"data"`
		} `json:"txpk"`
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return TxPacket{}, fmt.Errorf("PULL_RESP: %w", err)
	}
	t := m.Txpk
	if t == nil || t.Imme == (t.Tmst != nil) || !t.Ipol {
		return TxPacket{}, errors.New("PULL_RESP: want txpk with imme or tmst, and ipol")
	}
	phy, err := base64.StdEncoding.DecodeString(t.Data)
	if err != nil || len(phy) != t.Size {
		return TxPacket{}, errors.New("PULL_RESP: data and size do not fit")
	}
	p := TxPacket{Immediate: t.Imme, Frequency: uint32(math.Round(t.Freq * 1e6)), PHYPayload: phy}
	if t.Tmst != nil {
		p.Timestamp = *t.Tmst
	}
	if t.Modu == "LORA" {
		if err := json.Unmarshal(t.Datr, &p.DataRate); err != nil {
			return TxPacket{}, fmt.Errorf("PULL_RESP: datr: %w", err)
		}
	}
	return p, nil
}
