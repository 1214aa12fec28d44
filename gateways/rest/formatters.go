package rest

import (
	"errors"
	"net/http"
	"time"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// formatterTest is the body of a decode or encode test. Without a formatter, that of the device or its application is tried.
type formatterTest struct {
	EndDeviceIDs *v3.EndDeviceIDs        `json:"end_device_ids"`
	VersionIDs   *v3.VersionIDs          `json:"version_ids"`
	Uplink       *v3.UplinkMessage       `json:"uplink"`
	Downlink     *v3.ApplicationDownlink `json:"downlink"`
	Formatter    messages.FormatterKind  `json:"formatter"`
	Parameter    string                  `json:"parameter"`
}

type uplinkBody struct {
	Uplink *v3.UplinkMessage `json:"uplink"`
}

type downlinkBody struct {
	Downlink *v3.ApplicationDownlink `json:"downlink"`
}

func (s *Server) decodeUplink(c *call) error {
	req, err := decodeBody[formatterTest](c)
	switch {
	case err != nil:
		return err
	case req.Uplink == nil:
		return messages.Invalid("no_uplink", `the body has no object "uplink": send {"uplink":{"f_port":1,"frm_payload":"AQI="},"formatter":"FORMATTER_JAVASCRIPT","parameter":"…"}`)
	case req.Uplink.FPort > 255:
		return badFPort(req.Uplink.FPort)
	}
	f, err := s.testedFormatter(c, req, true)
	if err != nil {
		return err
	}
	up := req.Uplink
	up.DecodedPayload, up.DecodedPayloadWarnings, up.DecodeError, up.NormalizedPayload, up.NormalizedPayloadWarnings = nil, nil, "", nil, nil
	if f.Kind != messages.FormatterNone {
		out, err := s.cfg.Formatters.DecodeUplink(c.ctx(), f, s.uplinkInput(c, req))
		if err != nil {
			return formatterFailed("decode_uplink", err)
		}
		up.DecodedPayload, up.DecodedPayloadWarnings = out.Data, out.Warnings
		up.NormalizedPayload, up.NormalizedPayloadWarnings = out.Normalized, out.NormalizedWarnings
	}
	return c.JSON(http.StatusOK, uplinkBody{up})
}

func receivedAt(t *time.Time) time.Time {
	if t == nil {
		return time.Now()
	}
	return *t
}

// uplinkInput is what the decoder would be told of the uplink.
func (s *Server) uplinkInput(c *call, req formatterTest) messages.DecodeInput {
	up := req.Uplink
	in := messages.DecodeInput{Bytes: up.FRMPayload, FPort: uint8(up.FPort), FCnt: uint32(up.FCnt), RecvTime: receivedAt(up.ReceivedAt), FormatterDevice: s.testedDevice(c, req)}
	if len(up.RxMetadata) > 0 {
		in.RSSI, in.SNR = &up.RxMetadata[0].RSSI, &up.RxMetadata[0].SNR
	}
	return in
}

// testedDevice is what the formatter would be told of the device. It need not exist. The version ids of the body win over its own.
func (s *Server) testedDevice(c *call, req formatterTest) messages.FormatterDevice {
	out := messages.FormatterDevice{Device: c.device()}
	if dev, err := s.cfg.Registry.Device(c.ctx(), c.device()); err == nil {
		out.Attributes, out.VersionIDs = dev.Attributes, (*messages.VersionIDs)(dev.VersionIDs)
		if dev.IDs.DevEUI != nil {
			out.DevEUI = *dev.IDs.DevEUI
		}
	}
	if req.VersionIDs != nil {
		out.VersionIDs = (*messages.VersionIDs)(req.VersionIDs)
	}
	return out
}

func (s *Server) encodeDownlink(c *call) error {
	req, f, err := s.downlinkTest(c)
	if err != nil {
		return err
	}
	down := req.Downlink
	if len(down.DecodedPayload) == 0 || down.DecodedPayload[0] != '{' {
		return messages.Invalid("decoded_payload", "downlink.decoded_payload: want an object for the encoder")
	}
	if f.Kind != messages.FormatterNone {
		out, err := s.cfg.Formatters.EncodeDownlink(c.ctx(), f, messages.EncodeInput{Data: down.DecodedPayload, FPort: uint8(down.FPort), FormatterDevice: s.testedDevice(c, req)})
		if err != nil {
			return formatterFailed("encode_downlink", err)
		}
		down.FRMPayload, down.FPort, down.DecodedPayloadWarnings = out.Bytes, v3.Uint32(out.FPort), out.Warnings
	}
	return c.JSON(http.StatusOK, downlinkBody{down})
}

func (s *Server) decodeDownlink(c *call) error {
	req, f, err := s.downlinkTest(c)
	if err != nil {
		return err
	}
	down := req.Downlink
	down.DecodedPayload, down.DecodedPayloadWarnings = nil, nil
	if f.Kind != messages.FormatterNone {
		out, err := s.cfg.Formatters.DecodeDownlink(c.ctx(), f, messages.DecodeInput{Bytes: down.FRMPayload, FPort: uint8(down.FPort), RecvTime: time.Now(), FormatterDevice: s.testedDevice(c, req)})
		if err != nil {
			return formatterFailed("decode_downlink", err)
		}
		down.DecodedPayload, down.DecodedPayloadWarnings = out.Data, out.Warnings
	}
	return c.JSON(http.StatusOK, downlinkBody{down})
}

func (s *Server) downlinkTest(c *call) (req formatterTest, f messages.Formatter, err error) {
	req, err = decodeBody[formatterTest](c)
	switch {
	case err != nil:
		return req, f, err
	case req.Downlink == nil:
		return req, f, messages.Invalid("no_downlink", `the body has no object "downlink": send {"downlink":{"f_port":1,…},"formatter":"FORMATTER_JAVASCRIPT","parameter":"…"}`)
	case req.Downlink.FPort > 255:
		return req, f, badFPort(req.Downlink.FPort)
	}
	f, err = s.testedFormatter(c, req, false)
	return req, f, err
}

func badFPort(n v3.Uint32) error {
	return messages.Invalid("f_port", "f_port %d: use 1 to 223", n)
}

func (s *Server) testedFormatter(c *call, req formatterTest, up bool) (messages.Formatter, error) {
	if len(req.Parameter) > messages.MaxFormatterSource {
		return messages.Formatter{}, messages.Invalid("formatter_script_too_large", "parameter has %d bytes: use at most %d", len(req.Parameter), messages.MaxFormatterSource)
	}
	switch req.Formatter {
	case messages.FormatterNone, messages.FormatterRepository, messages.FormatterJavaScript, messages.FormatterLua, messages.FormatterCayenneLPP:
		return messages.Formatter{Kind: req.Formatter, Parameter: req.Parameter}, nil
	case "":
		return s.deviceFormatter(c, up)
	}
	return messages.Formatter{}, messages.Invalid("formatter_not_configured", "formatter %q is not supported: use one of %s, %s, %s, %s, %s", shorten(string(req.Formatter)),
		messages.FormatterJavaScript, messages.FormatterLua, messages.FormatterCayenneLPP, messages.FormatterRepository, messages.FormatterNone)
}

// deviceFormatter is what the device's messages go through: its own formatters if it has any, else those of the application.
func (s *Server) deviceFormatter(c *call, up bool) (messages.Formatter, error) {
	dev, err := s.cfg.Registry.Device(c.ctx(), c.device())
	if err != nil {
		return messages.Formatter{}, err
	}
	use := dev.Formatters
	if use == nil {
		link, err := s.cfg.Registry.Link(c.ctx(), c.app())
		if err != nil {
			return messages.Formatter{}, err
		}
		use = link.DefaultFormatters
	}
	f := messages.Formatter{Kind: messages.FormatterNone}
	switch {
	case use == nil:
	case up && use.UpFormatter != "":
		f = messages.Formatter{Kind: use.UpFormatter, Parameter: use.UpFormatterParameter}
	case !up && use.DownFormatter != "":
		f = messages.Formatter{Kind: use.DownFormatter, Parameter: use.DownFormatterParameter}
	}
	return f, nil
}

// formatterFailed tells the author of a script what is wrong with it. What is wrong with the server is told as that.
func formatterFailed(name string, err error) error {
	var ours *messages.Error
	if !errors.As(err, &ours) {
		return messages.Invalid(name, "%v", err)
	}
	switch ours.Code {
	case messages.CodeInternal, messages.CodeUnavailable, messages.CodeExhausted:
		return err
	}
	return messages.Invalid(name, "%w", err)
}
