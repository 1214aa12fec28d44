package radiogateway

import (
	"testing"
	"time"

	"github.com/brocaar/lorawan/airtime"

	"lorikeet/messages"
)

func lora(sf uint8, bw uint32) messages.DataRate {
	return messages.DataRate{Modulation: messages.LoRa, SpreadingFactor: sf, Bandwidth: bw, CodingRate: "4/5"}
}

func TestAirtime(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		dr    messages.DataRate
		bytes int
		want  time.Duration
	}{
		{"SF7, 23 bytes", lora(7, 125_000), 23, 61_696 * time.Microsecond},
		{"SF12 with low data rate optimisation", lora(12, 125_000), 13, 1_155_072 * time.Microsecond},
		{"SF12, 500 kHz, without", lora(12, 500_000), 13, 288_768 * time.Microsecond},
		{"no coding rate is 4/5", messages.DataRate{SpreadingFactor: 7, Bandwidth: 125_000}, 23, 61_696 * time.Microsecond},
		{"FSK 50 kbit/s", messages.DataRate{Modulation: messages.FSK, BitRate: 50_000}, 14, 4 * time.Millisecond},
		{"LR-FHSS 1/3", messages.DataRate{Modulation: messages.LRFHSS, Bandwidth: 137_000, CodingRate: "1/3"}, 58, 3_874_816 * time.Microsecond},
		{"LR-FHSS 2/3", messages.DataRate{Modulation: messages.LRFHSS, Bandwidth: 137_000, CodingRate: "2/3"}, 13, 876_544 * time.Microsecond},
		{"no such SF", lora(4, 125_000), 23, 0},
		{"no bandwidth", lora(7, 0), 23, 0},
		{"no bit rate", messages.DataRate{Modulation: messages.FSK}, 23, 0},
		{"no such modulation", messages.DataRate{Modulation: 9}, 23, 0},
		{"no such length", lora(7, 125_000), -1, 0},
	} {
		if got := Airtime(tt.dr, tt.bytes); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

// The LoRaWAN library is the oracle where its formula holds: SF7 to SF12, whole kHz.
func TestAirtimeAgreesWithLibrary(t *testing.T) {
	t.Parallel()
	for sf := 7; sf <= 12; sf++ {
		for _, khz := range []int{125, 250, 500} {
			for n := 0; n <= 255; n++ {
				optimised := (1<<sf)/khz >= 16
				want, err := airtime.CalculateLoRaAirtime(n, sf, khz, 8, airtime.CodingRate45, true, optimised)
				if err != nil {
					t.Fatal(err)
				}
				got := Airtime(lora(uint8(sf), uint32(khz)*1000), n)
				if (got - want).Abs() > time.Microsecond {
					t.Fatalf("SF%dBW%d, %d bytes: got %v, want %v", sf, khz, n, got, want)
				}
			}
		}
	}
}

func TestAirtimeSF5AndSF6(t *testing.T) {
	t.Parallel()
	// 12 + 6.25 + 8 symbols and 5 for each started block of 4·SF bits of 8·n + 16 + 20 − 4·SF, at 256 µs a symbol.
	if got, want := Airtime(lora(5, 125_000), 13), 14_400*time.Microsecond; got != want {
		t.Errorf("SF5: got %v, want %v", got, want)
	}
	if got, want := Airtime(lora(6, 125_000), 13), 26_240*time.Microsecond; got != want {
		t.Errorf("SF6: got %v, want %v", got, want)
	}
}

func TestRequiredSNR(t *testing.T) {
	t.Parallel()
	for sf, want := range map[uint8]float32{5: -2.5, 6: -5, 7: -7.5, 8: -10, 9: -12.5, 10: -15, 11: -17.5, 12: -20} {
		if got, ok := RequiredSNR(sf); !ok || got != want {
			t.Errorf("SF%d: got %v, %v, want %v", sf, got, ok, want)
		}
	}
	for _, sf := range []uint8{0, 4, 13} {
		if _, ok := RequiredSNR(sf); ok {
			t.Errorf("SF%d has a required SNR", sf)
		}
	}
}
