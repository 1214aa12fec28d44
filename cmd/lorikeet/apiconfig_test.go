package main

import (
	"strings"
	"testing"

	"lorikeet/messages"
)

func TestDevEUIBlocks(t *testing.T) {
	t.Parallel()
	first, bits, err := parseEUIBlock("70b3d57ed0000000/40")
	if err != nil || bits != 40 || first != (messages.EUI64{0x70, 0xB3, 0xD5, 0x7E, 0xD0}) {
		t.Errorf("got %s/%d, %v", first, bits, err)
	}
	for _, text := range []string{"", "70B3D57ED0000000", "70B3D57ED0000000/0", "70B3D57ED0000000/65", "70B3D57ED0000001/40", "70B3/40", "70B3D57ED0000000/x"} {
		if _, _, err := parseEUIBlock(text); err == nil || !strings.Contains(err.Error(), "70B3D57ED0000000/40") {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

func TestAPIInputIsOneOfTwo(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	for input, ok := range map[string]bool{"strict": true, "lenient": true, "": false, "loose": false} {
		cfg.API.Input = input
		if err := cfg.Validate(); (err == nil) != ok {
			t.Errorf("api.input %q: %v", input, err)
		}
	}
}
