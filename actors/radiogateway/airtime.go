package radiogateway

import (
	"math"
	"time"

	"lorikeet/messages"
)

// Airtime is how long a frame of payloadBytes (the whole PHYPayload) is on air, with preamble, explicit header and payload CRC.
// A LoRa downlink has no payload CRC, so for it this is up to one block of symbols too long: the safe side.
// It is 0 for a data rate that does not exist. Sources: Semtech AN1200.13 and the SX1262 data sheet §6.1.4 (LoRa, and SF5 and
// SF6 in particular), RP002 (preambles, FSK framing, LR-FHSS).
func Airtime(dr messages.DataRate, payloadBytes int) time.Duration {
	if payloadBytes < 0 {
		return 0
	}
	switch dr.Modulation {
	case messages.LoRa:
		return loraAirtime(dr, payloadBytes)
	case messages.FSK:
		if dr.BitRate == 0 {
			return 0
		}
		const preamble, sync, length, crc = 5, 3, 1, 2
		bits := 8 * float64(preamble+sync+length+payloadBytes+crc)
		return seconds(bits / float64(dr.BitRate))
	case messages.LRFHSS:
		return lrfhssAirtime(dr, payloadBytes)
	}
	return 0
}

func loraAirtime(dr messages.DataRate, n int) time.Duration {
	if dr.SpreadingFactor < 5 || dr.SpreadingFactor > 12 || dr.Bandwidth == 0 {
		return 0
	}
	sf := float64(dr.SpreadingFactor)
	symbol := math.Exp2(sf) / float64(dr.Bandwidth)
	const crc, header = 16, 20
	preamble, bits, perBlock := 8+4.25, 8*float64(n)+crc+header+8-4*sf, 4*sf
	switch {
	case dr.SpreadingFactor < 7:
		preamble, bits = 12+6.25, bits-8
	case symbol > 0.016: // low data rate optimisation
		perBlock = 4 * (sf - 2)
	}
	symbols := preamble + 8 + math.Max(math.Ceil(bits/perBlock), 0)*codingDenominator(dr.CodingRate)
	return seconds(symbols * symbol)
}

func codingDenominator(codingRate string) float64 {
	if len(codingRate) >= 3 && codingRate[:2] == "4/" && codingRate[2] >= '5' && codingRate[2] <= '8' {
		return float64(codingRate[2] - '0')
	}
	return 5
}

// lrfhssAirtime: repeated headers of 233.472 ms, then fragments of 102.4 ms with 48 coded bits each; the payload has 2 bytes of CRC and 6 bits of tail.
func lrfhssAirtime(dr messages.DataRate, n int) time.Duration {
	headers, bytesPerFragment := 3.0, 2.0
	if dr.CodingRate == "2/3" || dr.CodingRate == "4/6" {
		headers, bytesPerFragment = 2, 4
	}
	return seconds(headers*0.233472 + math.Ceil(float64(n+3)/bytesPerFragment)*0.1024)
}

func seconds(s float64) time.Duration { return time.Duration(math.Round(s*1e6)) * time.Microsecond }

// RequiredSNR is the lowest SNR in dB at which a LoRa frame of the spreading factor can be demodulated. ok is false if there is none.
func RequiredSNR(spreadingFactor uint8) (dB float32, ok bool) {
	if spreadingFactor < 5 || spreadingFactor > 12 {
		return 0, false
	}
	return -2.5 * float32(spreadingFactor-4), true
}
