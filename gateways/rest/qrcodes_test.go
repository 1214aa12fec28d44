package rest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"image/png"
	"strings"
	"testing"

	"rsc.io/qr"
)

const labelled = `"end_device":{"ids":{"join_eui":"70B3D57ED0000001","dev_eui":"0004A30B001C0530"},"claim_authentication_code":{"value":"OWNER1"},"serial_number":"SN-1","lora_alliance_profile_ids":{"vendor_id":43707,"vendor_profile_id":4386}}`

const labelText = "LW:D0:70B3D57ED0000001:0004A30B001C0530:AABB1122:OOWNER1:SSN-1"

func TestQRCodesAreMade(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.do("POST", "/qr-codes/end-devices", `{`+labelled+`}`).is(200).has("text", `"`+labelText+`"`).has("image", "")
	d.do("POST", "/qr-codes/end-devices", `{`+strings.Replace(labelled, "SN-1", "sn-1", 1)+`}`).is(200).has("text", `"`+labelText+`"`)
	d.do("POST", "/qr-codes/end-devices", `{"format_id":"tr005draft3",`+labelled+`}`).is(200).
		has("text", `"URN:DEV:LW:70B3D57ED0000001_0004A30B001C0530_AABB1122_VOWNER1_SSN-1"`)
	var got qrCodeBody
	if err := json.Unmarshal([]byte(d.do("POST", "/qr-codes/end-devices", `{`+labelled+`,"image":{"image_size":"300"}}`).is(200).Body), &got); err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(got.Image.Embedded.Data))
	if err != nil || img.Bounds().Dx() != 300 || img.Bounds().Dy() != 300 || got.Image.Embedded.MIMEType != "image/png" {
		t.Fatalf("the image is %v, %v", img, err)
	}
	code, err := qr.Encode(labelText, qr.M)
	if err != nil {
		t.Fatal(err)
	}
	scale := 300 / (code.Size + 8)
	margin := (300 - scale*code.Size) / 2
	for y := range code.Size {
		for x := range code.Size {
			if r, _, _, _ := img.At(margin+x*scale+scale/2, margin+y*scale+scale/2).RGBA(); (r == 0) != code.Black(x, y) {
				t.Fatalf("module %d,%d is wrong", x, y)
			}
		}
	}
	for body, name := range map[string]string{
		`{}`: "no_end_device",
		`{"end_device":{"ids":{"dev_eui":"0004A30B001C0530"}}}`:  "no_join_eui",
		`{"end_device":{"ids":{"join_eui":"0004A30B001C0530"}}}`: "no_dev_eui",
		`{"format_id":"tr006",` + labelled + `}`:                 "format",
		`{` + labelled + `,"image":{"image_size":5}}`:            "invalid_image_size",
		`{` + labelled + `,"image":{"image_size":20}}`:           "invalid_image_size",
		`{` + labelled + `,"image":{"image_size":1001}}`:         "invalid_image_size",
		strings.Replace(`{`+labelled+`}`, "OWNER1", "a:b", 1):    "character",
		strings.Replace(`{`+labelled+`}`, "43707", "65536", 1):   "invalid_lora_alliance_profile_ids",
	} {
		d.do("POST", "/qr-codes/end-devices", body).fails(400, name)
	}
}

func TestQRCodesAreRead(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	for _, text := range []string{labelText, base64.StdEncoding.EncodeToString([]byte(labelText)), base64.RawURLEncoding.EncodeToString([]byte(labelText))} {
		for _, path := range []string{"/qr-codes/end-devices/parse", "/qr-codes/end-devices/tr005/parse"} {
			d.do("POST", path, tree{"qr_code": text}).is(200).has("format_id", `"tr005"`).has("end_device_template.end_device.ids.dev_eui", `"0004A30B001C0530"`).
				has("end_device_template.end_device.claim_authentication_code", `{"value":"OWNER1"}`).has("end_device_template.end_device.serial_number", `"SN-1"`).
				has("end_device_template.end_device.lora_alliance_profile_ids.vendor_id", "43707")
		}
	}
	for body, name := range map[string]string{`{}`: "invalid_qr_code", `{"qr_code":"!"}`: "invalid_qr_code", `{"qr_code":"AQID"}`: "format", `{"qr_code":"LW:D0:1:2:3"}`: "format"} {
		d.do("POST", "/qr-codes/end-devices/parse", body).fails(400, name)
	}
	d.do("POST", "/qr-codes/end-devices/tr005draft2/parse", tree{"qr_code": labelText}).fails(400, "format")
	d.do("GET", "/qr-codes/end-devices/formats", nil).is(200).has("formats.tr005.name", `"LoRa Alliance TR005"`)
	d.do("GET", "/qr-codes/end-devices/formats/tr005draft2", nil).is(200).has("field_mask.paths", `["claim_authentication_code.value","ids.dev_eui","ids.join_eui"]`)
	d.do("GET", "/qr-codes/end-devices/formats/other", nil).fails(404, "format_not_found")
}
