package semtechudp

import (
	"bytes"
	"strconv"

	"lorikeet/messages"
)

// parseDataRate reads modu, datr and codr of an rxpk. A missing modu is told from the form of datr.
func parseDataRate(modu []byte, datr value, codr []byte) (messages.DataRate, bool) {
	if datr.kind == text {
		if b, ok := datr.str(); ok {
			switch {
			case bytes.HasPrefix(b, []byte("SF")) && (len(modu) == 0 || string(modu) == "LORA"):
				return parseLoRa(b, codr)
			case bytes.HasPrefix(b, []byte("M")) && (len(modu) == 0 || string(modu) == "LR-FHSS"):
				return parseLRFHSS(b, codr)
			}
		}
	}
	if len(modu) != 0 && string(modu) != "FSK" {
		return messages.DataRate{}, false
	}
	rate, ok := datr.integer()
	if !ok || rate < 1 || rate > 1_000_000 {
		return messages.DataRate{}, false
	}
	return messages.DataRate{Modulation: messages.FSK, BitRate: uint32(rate)}, true
}

// parseLoRa reads "SF7BW125". The bandwidth of 2.4 GHz is "BW812", which stands for 812 kHz in the region tables.
func parseLoRa(datr, codr []byte) (messages.DataRate, bool) {
	sf, bw, found := bytes.Cut(datr[2:], []byte("BW"))
	factor, ok1 := digits(sf)
	width, ok2 := digits(bw)
	if !found || !ok1 || !ok2 || factor < 5 || factor > 12 || width < 7 || width > 1700 {
		return messages.DataRate{}, false
	}
	return messages.DataRate{
		Modulation: messages.LoRa, SpreadingFactor: uint8(factor), Bandwidth: uint32(width) * 1000, CodingRate: loraCodingRate(codr),
	}, true
}

// loraCodingRate gives "" for no coding ("OFF") and for what is no coding rate: the frame is good either way.
func loraCodingRate(codr []byte) string {
	switch string(codr) {
	case "4/5":
		return "4/5"
	case "4/6", "2/3":
		return "4/6"
	case "4/7":
		return "4/7"
	case "4/8", "1/2":
		return "4/8"
	case "4/5LI":
		return "4/5LI"
	case "4/6LI":
		return "4/6LI"
	case "4/8LI":
		return "4/8LI"
	}
	return ""
}

// parseLRFHSS reads "M0CW137": modulation type 0, operating channel width 137 kHz.
func parseLRFHSS(datr, codr []byte) (messages.DataRate, bool) {
	mod, width, found := bytes.Cut(datr[1:], []byte("CW"))
	m, ok1 := digits(mod)
	w, ok2 := digits(width)
	if !found || !ok1 || !ok2 || m > 255 || w < 1 || w > 10_000 {
		return messages.DataRate{}, false
	}
	dr := messages.DataRate{Modulation: messages.LRFHSS, ModulationType: uint8(m), Bandwidth: uint32(w) * 1000}
	switch string(codr) {
	case "1/3", "2/6":
		dr.CodingRate = "1/3"
	case "2/3", "4/6":
		dr.CodingRate = "2/3"
	}
	return dr, true
}

// appendDataRate writes the members modu, datr, codr and what else the modulation of a downlink needs.
// LR-FHSS is for uplinks only: ok is false.
func appendDataRate(b []byte, dr messages.DataRate) (_ []byte, ok bool) {
	switch {
	case dr.Modulation == messages.LoRa && dr.SpreadingFactor >= 5 && dr.SpreadingFactor <= 12 && dr.Bandwidth >= 7000:
		b = append(b, `,"modu":"LORA","datr":"SF`...)
		b = strconv.AppendUint(b, uint64(dr.SpreadingFactor), 10)
		b = append(b, "BW"...)
		b = strconv.AppendUint(b, uint64(dr.Bandwidth/1000), 10)
		codr := loraCodingRate([]byte(dr.CodingRate))
		if codr == "" {
			codr = "4/5"
		}
		b = append(append(append(b, `","codr":"`...), codr...), `","prea":`...)
		// RP002 gives SF5 and SF6 a longer preamble.
		preamble := uint64(8)
		if dr.SpreadingFactor < 7 {
			preamble = 12
		}
		return strconv.AppendUint(b, preamble, 10), true
	case dr.Modulation == messages.FSK && dr.BitRate > 0:
		b = append(b, `,"modu":"FSK","datr":`...)
		b = strconv.AppendUint(b, uint64(dr.BitRate), 10)
		b = append(b, `,"fdev":`...)
		b = strconv.AppendUint(b, uint64(dr.BitRate/2), 10)
		return append(b, `,"prea":5`...), true
	}
	return b, false
}
