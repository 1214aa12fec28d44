package rest

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"strings"
	"time"

	"rsc.io/qr"

	"lorikeet/messages"
	"lorikeet/messages/tr005"
	v3 "lorikeet/messages/v3"
)

func qrCodeRoutes() []route {
	const codes = "/qr-codes/end-devices"
	return []route{
		{http.MethodGet, codes + "/formats", anyKey, (*Server).listQRFormats},
		{http.MethodGet, codes + "/formats/:format_id", anyKey, (*Server).getQRFormat},
		{http.MethodPost, codes, anyKey, (*Server).generateQRCode},
		{http.MethodPost, codes + "/parse", anyKey, (*Server).parseQRCode},
		{http.MethodPost, codes + "/:format_id/parse", anyKey, (*Server).parseQRCode},
	}
}

// qrFormat says what a device needs for a QR code.
type qrFormat struct {
	Name        string       `json:"name"`
	Description string       `json:"description"`
	FieldMask   v3.FieldMask `json:"field_mask"`
}

type qrFormatsBody struct {
	Formats map[string]qrFormat `json:"formats"`
}

func qrFormats() map[string]qrFormat {
	const description = "Standard QR code format defined by LoRa Alliance."
	out := map[string]qrFormat{}
	for format, name := range map[tr005.Format]string{tr005.Final: "LoRa Alliance TR005", tr005.Draft2: "LoRa Alliance TR005 Draft 2", tr005.Draft3: "LoRa Alliance TR005 Draft 3"} {
		out[string(format)] = qrFormat{name, description, v3.FieldMask{Paths: []string{"claim_authentication_code.value", "ids.dev_eui", "ids.join_eui"}}}
	}
	return out
}

func (s *Server) listQRFormats(c *call) error {
	return c.JSON(http.StatusOK, qrFormatsBody{qrFormats()})
}

func (s *Server) getQRFormat(c *call) error {
	format, ok := qrFormats()[c.Param("format_id")]
	if !ok {
		return messages.NotFound("format_not_found", "format %q not found: use one of %v", c.Param("format_id"), tr005.Formats)
	}
	return c.JSON(http.StatusOK, format)
}

// Sizes of an image in pixels.
const (
	minImage     = 10
	maxImage     = 1000
	quietModules = 4 // on each side. [ISO/IEC 18004 §6.3.8]
)

type qrCodeRequest struct {
	FormatID  string        `json:"format_id,omitempty"`
	EndDevice *v3.EndDevice `json:"end_device"`
	Image     *struct {
		ImageSize v3.Uint32 `json:"image_size"` // pixels
	} `json:"image,omitempty"`
}

type qrCodeBody struct {
	Text  string   `json:"text"`
	Image *picture `json:"image,omitempty"`
}

type picture struct {
	Embedded struct {
		MIMEType string   `json:"mime_type"`
		Data     v3.Bytes `json:"data"`
	} `json:"embedded"`
}

// generateQRCode makes the text of a device, and its image if one is asked for.
func (s *Server) generateQRCode(c *call) error {
	req, err := decodeBody[qrCodeRequest](c)
	if err != nil {
		return err
	}
	if req.EndDevice == nil {
		return messages.Invalid("no_end_device", `the body has no object "end_device": send {"end_device":{"ids":{"join_eui":"…","dev_eui":"…"}}}`)
	}
	code, err := codeOf(*req.EndDevice)
	if err != nil {
		return err
	}
	var out qrCodeBody
	if out.Text, err = code.Text(tr005.Format(cmp.Or(req.FormatID, string(tr005.Final)))); err != nil {
		return err
	}
	if req.Image == nil {
		return c.JSON(http.StatusOK, out)
	}
	out.Image = &picture{}
	out.Image.Embedded.MIMEType = "image/png"
	if out.Image.Embedded.Data, err = drawQRCode(out.Text, int(req.Image.ImageSize)); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, out)
}

// claimCode is the claim_authentication_code of a device.
type claimCode struct {
	Value     string     `json:"value,omitempty"`
	ValidFrom *time.Time `json:"valid_from,omitempty"`
	ValidTo   *time.Time `json:"valid_to,omitempty"`
}

// profileIDs are the lora_alliance_profile_ids of a device.
type profileIDs struct {
	VendorID        v3.Uint32 `json:"vendor_id,omitempty"`
	VendorProfileID v3.Uint32 `json:"vendor_profile_id,omitempty"`
}

func codeOf(dev v3.EndDevice) (code tr005.Code, err error) {
	switch {
	case dev.IDs.JoinEUI == nil:
		return code, messages.Errorf(messages.CodePrecondition, "no_join_eui", "the device has no JoinEUI: set end_device.ids.join_eui")
	case dev.IDs.DevEUI == nil:
		return code, messages.Errorf(messages.CodePrecondition, "no_dev_eui", "the device has no DevEUI: set end_device.ids.dev_eui")
	}
	claim, err := readClaimCode(dev)
	if err != nil {
		return code, err
	}
	var profile profileIDs
	if len(dev.LoRaAllianceProfileIDs) > 0 {
		if profile, _, err = decodeValue[profileIDs]("end_device.lora_alliance_profile_ids", dev.LoRaAllianceProfileIDs); err != nil {
			return code, err
		}
	}
	if profile.VendorID > 0xFFFF || profile.VendorProfileID > 0xFFFF {
		return code, messages.Invalid("invalid_lora_alliance_profile_ids", "end_device.lora_alliance_profile_ids: vendor_id and vendor_profile_id are numbers of 0 to 65535")
	}
	return tr005.Code{
		JoinEUI: *dev.IDs.JoinEUI, DevEUI: *dev.IDs.DevEUI, VendorID: uint16(profile.VendorID), ProfileID: uint16(profile.VendorProfileID),
		OwnerToken: claim.Value, SerialNumber: strings.ToUpper(dev.SerialNumber), // those of The Things Stack have small letters, a QR code can't
	}, nil
}

func readClaimCode(dev v3.EndDevice) (claimCode, error) {
	if len(dev.ClaimAuthenticationCode) == 0 {
		return claimCode{}, nil
	}
	code, _, err := decodeValue[claimCode]("claim_authentication_code", dev.ClaimAuthenticationCode)
	return code, err
}

// drawQRCode draws a PNG of size by size pixels. Modules have whole pixels, so that scanners read them; what is left over is margin.
func drawQRCode(text string, size int) ([]byte, error) {
	if size < minImage || size > maxImage {
		return nil, messages.Invalid("invalid_image_size", "image.image_size %d: use %d to %d pixels", size, minImage, maxImage)
	}
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return nil, messages.Invalid("format", "the text does not fit into a QR code: %v", err)
	}
	scale := size / (code.Size + 2*quietModules)
	if scale == 0 {
		return nil, messages.Invalid("invalid_image_size", "image.image_size %d is too small for this text: use %d or more", size, code.Size+2*quietModules)
	}
	margin := (size - scale*code.Size) / 2
	img := image.NewPaletted(image.Rect(0, 0, size, size), color.Palette{color.White, color.Black})
	for y := range scale * code.Size {
		for x := range scale * code.Size {
			if code.Black(x/scale, y/scale) {
				img.SetColorIndex(margin+x, margin+y, 1)
			}
		}
	}
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		return nil, fmt.Errorf("draw a QR code: %w", err)
	}
	return out.Bytes(), nil
}

type qrParseRequest struct {
	FormatID string `json:"format_id,omitempty"`
	QRCode   string `json:"qr_code"` // base64 of the text, or the text itself
}

type qrParsedBody struct {
	FormatID string         `json:"format_id"`
	Template deviceTemplate `json:"end_device_template"`
}

// deviceTemplate is what is known of a device before it is registered.
type deviceTemplate struct {
	EndDevice v3.EndDevice `json:"end_device"`
	FieldMask v3.FieldMask `json:"field_mask"`
}

func (s *Server) parseQRCode(c *call) error {
	req, err := decodeBody[qrParseRequest](c)
	if err != nil {
		return err
	}
	code, format, err := readQRCode(req.QRCode)
	if err != nil {
		return err
	}
	if want := cmp.Or(c.Param("format_id"), req.FormatID); want != "" && want != string(format) {
		return messages.Invalid("format", "the QR code is of format %s, not %s", format, shorten(want))
	}
	return c.JSON(http.StatusOK, qrParsedBody{string(format), deviceTemplateOf(code)})
}

// readQRCode takes the text as The Things Stack does, in base64, or as it was scanned: no base64 has a colon.
func readQRCode(text string) (tr005.Code, tr005.Format, error) {
	if !strings.Contains(text, ":") {
		enc := base64.RawStdEncoding
		if strings.ContainsAny(text, "-_") {
			enc = base64.RawURLEncoding
		}
		decoded, err := enc.DecodeString(strings.TrimRight(text, "="))
		if err != nil || text == "" {
			return tr005.Code{}, "", messages.Invalid("invalid_qr_code", "qr_code: want what was scanned, in base64 or as it is, such as LW:D0:…")
		}
		text = string(decoded)
	}
	return tr005.Parse(text)
}

func deviceTemplateOf(code tr005.Code) deviceTemplate {
	t := deviceTemplate{FieldMask: v3.FieldMask{Paths: []string{"ids.join_eui", "ids.dev_eui"}}}
	t.EndDevice.IDs = v3.EndDeviceIDs{JoinEUI: &code.JoinEUI, DevEUI: &code.DevEUI}
	add := func(path string) { t.FieldMask.Paths = append(t.FieldMask.Paths, path) }
	if code.OwnerToken != "" {
		t.EndDevice.ClaimAuthenticationCode = asJSON(claimCode{Value: code.OwnerToken})
		add("claim_authentication_code.value")
	}
	if code.SerialNumber != "" {
		t.EndDevice.SerialNumber = code.SerialNumber
		add("serial_number")
	}
	if code.VendorID != 0 || code.ProfileID != 0 {
		t.EndDevice.LoRaAllianceProfileIDs = asJSON(profileIDs{v3.Uint32(code.VendorID), v3.Uint32(code.ProfileID)})
		add("lora_alliance_profile_ids.vendor_id")
		add("lora_alliance_profile_ids.vendor_profile_id")
	}
	return t
}
