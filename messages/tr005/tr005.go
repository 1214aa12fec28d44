// Package tr005 reads and writes what the QR code on a device says of it: LoRa Alliance TR005, in its final form and in the drafts 2 and 3 that are on
// devices too.
//
//	final    LW:D0:<JoinEUI>:<DevEUI>:<profile>[:O<owner token>][:S<serial number>][:P<proprietary>][:C<checksum>]
//	draft 3  URN:DEV:LW:<JoinEUI>_<DevEUI>_<profile>[_V<validation code>][_S<serial number>][_P<proprietary>]
//	draft 2  URN:LW:DP:<JoinEUI>:<DevEUI>:<profile>[:[%V<validation code>][%S<serial number>][%P<proprietary>]]
//
// A profile is 8 hex digits: the id of the vendor and that of the vendor's profile.
package tr005

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"lorikeet/messages"
)

// Format is a form of the text, named as The Things Stack does.
type Format string

const (
	Final  Format = "tr005"
	Draft2 Format = "tr005draft2"
	Draft3 Format = "tr005draft3"
)

// Formats lists all, the preferred one first.
var Formats = [...]Format{Final, Draft3, Draft2}

// MaxLength of a text, in bytes.
const MaxLength = 1024

// Code is what a QR code says. The texts may be empty.
type Code struct {
	JoinEUI, DevEUI     messages.EUI64
	VendorID, ProfileID uint16
	OwnerToken          string // the drafts' device validation code
	SerialNumber        string
	Proprietary         string
	Checksum            string // of the final form only; kept as it is and not checked
}

// forms say how the texts differ.
var forms = map[Format]struct{ prefix, separator, owner string }{
	Final:  {"LW:D0:", ":", "O"},
	Draft2: {"URN:LW:DP:", ":", "V"},
	Draft3: {"URN:DEV:LW:", "_", "V"},
}

// Parse reads a text of any form. The error, messages.CodeInvalid, says what is wrong with it.
func Parse(text string) (Code, Format, error) {
	for _, format := range Formats {
		if form := forms[format]; len(text) <= MaxLength && len(text) >= len(form.prefix) && strings.EqualFold(text[:len(form.prefix)], form.prefix) {
			code, err := parse(format, text[len(form.prefix):])
			return code, format, err
		}
	}
	return Code{}, "", messages.Invalid("format", "not a LoRaWAN QR code of up to %d characters: it begins with LW:D0:, URN:DEV:LW: or URN:LW:DP:", MaxLength)
}

func parse(format Format, text string) (c Code, err error) {
	form := forms[format]
	parts := strings.Split(text, form.separator)
	if len(parts) < 3 {
		return c, messages.Invalid("format", "the QR code lacks JoinEUI, DevEUI or profile id")
	}
	for i, eui := range []*messages.EUI64{&c.JoinEUI, &c.DevEUI} {
		if len(parts[i]) != 16 {
			return c, messages.Invalid("format", "%q in the QR code is no EUI of 16 hex digits", parts[i])
		}
		if *eui, err = messages.ParseEUI64(parts[i]); err != nil {
			return c, messages.Invalid("format", "the QR code: %w", err)
		}
	}
	profile, err := hex.DecodeString(parts[2])
	if err != nil || len(profile) != 4 {
		return c, messages.Invalid("format", "%q in the QR code is no profile id of 8 hex digits", parts[2])
	}
	c.VendorID, c.ProfileID = uint16(profile[0])<<8|uint16(profile[1]), uint16(profile[2])<<8|uint16(profile[3])
	extensions := parts[3:]
	if format == Draft2 && len(extensions) > 0 { // some writers escape the percent signs
		extensions = strings.Split(strings.TrimPrefix(strings.ReplaceAll(strings.Join(extensions, ":"), "%25", "%"), "%"), "%")
	}
	return c, c.extend(form.owner, extensions)
}

// extend reads the parts that begin with a letter. Those of letters that are not known are left out.
func (c *Code) extend(owner string, extensions []string) error {
	for _, part := range extensions {
		if part == "" {
			continue
		}
		if err := checkText(part); err != nil {
			return err
		}
		switch letter, value := part[:1], part[1:]; letter {
		case owner:
			c.OwnerToken = value
		case "S":
			c.SerialNumber = value
		case "P":
			c.Proprietary = value
		case "C":
			c.Checksum = value
		}
	}
	return nil
}

// checkText accepts the characters of a QR code's alphanumeric mode that separate nothing.
func checkText(text string) error {
	for _, r := range text {
		if !(r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(" $*+-./", r)) {
			return messages.Invalid("character", "%s can't be in a LoRaWAN QR code: use A to Z, 0 to 9 and $*+-./", strconv.QuoteRune(r))
		}
	}
	return nil
}

// Text writes the code in a form. The error says which of the texts can't be in a QR code.
func (c Code) Text(format Format) (string, error) {
	form, ok := forms[format]
	if !ok {
		return "", messages.Invalid("format", "format %q is unknown: use one of %v", format, Formats)
	}
	var b strings.Builder
	b.WriteString(form.prefix)
	b.WriteString(strings.Join([]string{c.JoinEUI.String(), c.DevEUI.String(), fmt.Sprintf("%04X%04X", c.VendorID, c.ProfileID)}, form.separator))
	mark := form.separator
	if format == Draft2 {
		mark = "%"
	}
	first := true
	for _, part := range [][2]string{{form.owner, c.OwnerToken}, {"S", c.SerialNumber}, {"P", c.Proprietary}} {
		if part[1] == "" {
			continue
		}
		if err := checkText(part[1]); err != nil {
			return "", err
		}
		if first && format == Draft2 {
			b.WriteString(form.separator)
		}
		b.WriteString(mark + part[0] + part[1])
		first = false
	}
	if b.Len() > MaxLength {
		return "", messages.Invalid("format", "the QR code would have %d characters: use at most %d", b.Len(), MaxLength)
	}
	return b.String(), nil
}
