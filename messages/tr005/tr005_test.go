package tr005

import (
	"strings"
	"testing"

	"lorikeet/messages"
)

var (
	joinEUI = messages.EUI64{0x70, 0xB3, 0xD5, 0x7E, 0xD0, 0, 0, 1}
	devEUI  = messages.EUI64{0x00, 0x04, 0xA3, 0x0B, 0x00, 0x1C, 0x05, 0x30}
)

func TestCodesOfAllFormsAreReadAndWritten(t *testing.T) {
	t.Parallel()
	plain := Code{JoinEUI: joinEUI, DevEUI: devEUI, VendorID: 0xAABB, ProfileID: 0x1122}
	full := plain
	full.OwnerToken, full.SerialNumber, full.Proprietary = "OWNER1", "YYWWNNNNNN", "FOO-BAR"
	for _, c := range []struct {
		text   string
		format Format
		want   Code
	}{
		{"LW:D0:70B3D57ED0000001:0004A30B001C0530:AABB1122", Final, plain},
		{"LW:D0:70B3D57ED0000001:0004A30B001C0530:AABB1122:OOWNER1:SYYWWNNNNNN:PFOO-BAR", Final, full},
		{"URN:DEV:LW:70B3D57ED0000001_0004A30B001C0530_AABB1122", Draft3, plain},
		{"URN:DEV:LW:70B3D57ED0000001_0004A30B001C0530_AABB1122_VOWNER1_SYYWWNNNNNN_PFOO-BAR", Draft3, full},
		{"URN:LW:DP:70B3D57ED0000001:0004A30B001C0530:AABB1122", Draft2, plain},
		{"URN:LW:DP:70B3D57ED0000001:0004A30B001C0530:AABB1122:%VOWNER1%SYYWWNNNNNN%PFOO-BAR", Draft2, full},
	} {
		got, format, err := Parse(c.text)
		if err != nil || format != c.format || got != c.want {
			t.Errorf("%s: got %+v, %s, %v", c.text, got, format, err)
		}
		if text, err := c.want.Text(c.format); err != nil || text != c.text {
			t.Errorf("%+v as %s: got %s, %v", c.want, c.format, text, err)
		}
	}
}

func TestWhatOtherWritersDoIsRead(t *testing.T) {
	t.Parallel()
	for text, owner := range map[string]string{
		"lw:d0:70b3d57ed0000001:0004a30b001c0530:aabb1122:OX:CAF2C":             "X",
		"LW:D0:70B3D57ED0000001:0004A30B001C0530:AABB1122:CAF2C:O1:ZFUTURE":     "1",
		"LW:D0:70B3D57ED0000001:0004A30B001C0530:AABB1122:O:S:P":                "",
		"URN:LW:DP:70B3D57ED0000001:0004A30B001C0530:AABB1122:%25VABCD%25SSN-1": "ABCD",
		"URN:DEV:LW:70B3D57ED0000001_0004A30B001C0530_AABB1122_V_S_P":           "",
	} {
		if got, _, err := Parse(text); err != nil || got.OwnerToken != owner || got.DevEUI != devEUI {
			t.Errorf("%s: got %+v, %v", text, got, err)
		}
	}
}

func TestWrongCodesAreRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "LW", "LW:D0:", "HTTPS://EXAMPLE.COM", "LW:D0:70B3D57ED0000001:0004A30B001C0530", "LW:D0:70B3:0004A30B001C0530:AABB1122", "LW:D0:70-B3-D5-7E-D0-00-00-01:0004A30B001C0530:AABB1122",
		"LW:D0:70B3D57ED0000001:0004A30B001C0530:AABB1122CC", "LW:D0:70B3D57ED0000001:0004A30B001C0530:AABBXX22", "LW:D0:70B3D57ED0000001:0004A30B001C0530:AABB1122:P#_",
		"LW:D0:70B3D57ED0000001:0004A30B001C0530:AABB1122:P" + strings.Repeat("A", MaxLength),
	} {
		if got, format, err := Parse(text); messages.CodeOf(err) != messages.CodeInvalid || err == nil {
			t.Errorf("%q: got %+v, %s, %v", text, got, format, err)
		}
	}
	if text, err := (Code{OwnerToken: "a:b"}).Text(Final); err == nil {
		t.Errorf("got %s", text)
	}
	if text, err := (Code{Proprietary: strings.Repeat("A", MaxLength)}).Text(Draft3); err == nil {
		t.Errorf("got %d characters", len(text))
	}
	if text, err := (Code{}).Text("tr006"); err == nil {
		t.Errorf("got %s", text)
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"LW:D0:70B3D57ED0000001:0004A30B001C0530:AABB1122:OX:SY:PZ", "URN:LW:DP:70B3D57ED0000001:0004A30B001C0530:AABB1122:%V1%25S2", "URN:DEV:LW:70B3D57ED0000001_0004A30B001C0530_AABB1122_VX"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, format, err := Parse(text)
		if err != nil {
			return
		}
		written, err := c.Text(format)
		if err != nil {
			t.Fatalf("%+v of %q can't be written: %v", c, text, err)
		}
		c.Checksum = ""
		if again, _, err := Parse(written); err != nil || again != c {
			t.Fatalf("%q became %q: %+v, %v", text, written, again, err)
		}
	})
}
