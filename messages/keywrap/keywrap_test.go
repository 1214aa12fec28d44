package keywrap

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"lorikeet/messages"
)

// The vectors of RFC 3394 §4.1 to §4.3: 128 bits of key data under KEKs of 128, 192 and 256 bits.
func TestVectorsOfTheRFC(t *testing.T) {
	const kek = "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F"
	key, err := messages.ParseKey("00112233445566778899AABBCCDDEEFF")
	if err != nil {
		t.Fatal(err)
	}
	for digits, want := range map[int]string{
		32: "1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5",
		48: "96778B25AE6CA435F92B5B97C050AED2468AB8A17AD84E5D",
		64: "64E8C3F9CE0F5BA263E9777905818A2A93C8191E7D6E8AE7",
	} {
		k, err := Parse("label", kek[:digits])
		if err != nil {
			t.Fatal(err)
		}
		wrapped := k.Wrap(key)
		if got := strings.ToUpper(hex.EncodeToString(wrapped)); got != want {
			t.Errorf("KEK of %d digits: %s, want %s", digits, got, want)
		}
		if got, err := k.Unwrap(wrapped); err != nil || got != key {
			t.Errorf("KEK of %d digits: does not open: %v", digits, err)
		}
		for i := range wrapped {
			wrapped[i] ^= 1
			if _, err := k.Unwrap(wrapped); !errors.Is(err, ErrUnwrap) {
				t.Errorf("changed byte %d: %v", i, err)
			}
			wrapped[i] ^= 1
		}
	}
}

func TestMistakesAreNamedWithoutTheKey(t *testing.T) {
	for _, digits := range []string{"", "00", "0011223344556677", strings.Repeat("0", 31), strings.Repeat("g", 32)} {
		if _, err := Parse("label", digits); err == nil || digits != "" && strings.Contains(err.Error(), digits) {
			t.Errorf("%q: %v", digits, err)
		}
	}
	k, err := Parse("as/one", strings.Repeat("ab", 16))
	if err != nil {
		t.Fatal(err)
	}
	if s := fmt.Sprintf("%v %+v %#v %s %x", k, k, k, k, k); strings.Contains(s, "ab") || !strings.Contains(s, "as/one") {
		t.Error(s)
	}
	if _, err := k.Unwrap(make([]byte, 16)); err == nil {
		t.Error("16 bytes were taken for a wrapped key")
	}
}
