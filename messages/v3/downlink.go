package v3

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"lorikeet/messages"
)

// MaxDownlinks is how many items one push or replace may carry.
const MaxDownlinks = 10000

// ConfirmedRetry says how often a confirmed downlink is tried.
type ConfirmedRetry struct {
	Attempt     Uint32 `json:"attempt,omitempty"`
	MaxAttempts Uint32 `json:"max_attempts,omitempty"`
}

// ApplicationDownlink is a downlink as applications write and see it.
type ApplicationDownlink struct {
	ID                     string          `json:"id,omitempty"` // additive: names the item in the queue
	SessionKeyID           Bytes           `json:"session_key_id,omitempty"`
	FPort                  Uint32          `json:"f_port,omitempty"`
	FCnt                   Uint32          `json:"f_cnt,omitempty"`
	FRMPayload             Bytes           `json:"frm_payload,omitempty"`
	DecodedPayload         json.RawMessage `json:"decoded_payload,omitempty"`
	DecodedPayloadWarnings []string        `json:"decoded_payload_warnings,omitempty"`
	Confirmed              bool            `json:"confirmed,omitempty"`
	ClassBC                json.RawMessage `json:"class_b_c,omitempty"`
	Priority               Priority        `json:"priority,omitempty"`
	CorrelationIDs         []string        `json:"correlation_ids,omitempty"`
	ConfirmedRetry         *ConfirmedRetry `json:"confirmed_retry,omitempty"`

	// Additive: when the item leaves the queue unsent, the earlier of both.
	TimeToLive Duration                `json:"time_to_live,omitempty"` // input only
	ExpiresAt  *time.Time              `json:"expires_at,omitempty"`
	Status     messages.DownlinkStatus `json:"status,omitempty"` // additive, output of a list only

	// Output only, in events.
	Locations  map[string]Location `json:"locations,omitempty"`
	VersionIDs *VersionIDs         `json:"version_ids,omitempty"`
	NetworkIDs *NetworkIDs         `json:"network_ids,omitempty"`
	Attributes map[string]string   `json:"attributes,omitempty"`
}

// classBC is what class_b_c may hold: the radio gateways that are to send, in this order, and when.
type classBC struct {
	Gateways []struct {
		GatewayIDs   GatewayIDs `json:"gateway_ids"`
		AntennaIndex Uint32     `json:"antenna_index"`
		GroupIndex   Uint32     `json:"group_index"`
	} `json:"gateways"`
	AbsoluteTime *time.Time `json:"absolute_time"`
}

func parseClassBC(raw json.RawMessage) (absolute time.Time, err error) {
	if raw == nil {
		return time.Time{}, nil
	}
	var c classBC
	if err := json.Unmarshal(raw, &c); err != nil {
		return time.Time{}, messages.Invalid("class_b_c", `class_b_c: %s; want e.g. {"gateways":[{"gateway_ids":{"gateway_id":"gtw1"}}],"absolute_time":"2024-10-24T10:05:00Z"}`, plainJSONError(err))
	}
	for i, g := range c.Gateways {
		if err := messages.ValidateID(g.GatewayIDs.GatewayID); err != nil {
			return time.Time{}, messages.Invalid("class_b_c", "class_b_c.gateways[%d].gateway_ids.gateway_id: %w", i, err)
		}
	}
	if c.AbsoluteTime != nil {
		absolute = *c.AbsoluteTime
	}
	return absolute, nil
}

// Priority is an enum name in JSON; the number is accepted. An unknown name is an error (The Things Stack reads it as LOWEST).
type Priority messages.Priority

func (p Priority) MarshalJSON() ([]byte, error) {
	return []byte(`"` + messages.Priority(p).String() + `"`), nil
}

func (p *Priority) UnmarshalJSON(in []byte) error {
	s := strings.Trim(string(in), `"`)
	if s == "null" || s == "" {
		*p = 0
		return nil
	}
	i := slices.Index(messages.PriorityNames[:], s)
	if n, err := strconv.Atoi(s); err == nil {
		i = n
	}
	if i < 0 || i >= len(messages.PriorityNames) {
		return fmt.Errorf("priority %q: use one of %s", s, strings.Join(messages.PriorityNames[:], ", "))
	}
	*p = Priority(i)
	return nil
}

// DecodeDownlinks reads the body of a push or replace: {"downlinks":[...]}. Unknown members are accepted. A body without "downlinks"
// is refused by Strict, and an empty list to Lenient (as The Things Stack takes it, and then replace clears the queue); an empty list is valid.
// If endDevice is not nil, it is set to the device that the body names, if any (the request of a pub/sub integration).
func (m Input) DecodeDownlinks(body []byte, endDevice *messages.DeviceID) ([]messages.Downlink, error) {
	body, err := SnakeCase(body)
	if err != nil {
		return nil, messages.Invalid("decode_body", "body is not JSON: %v", err)
	}
	var req struct {
		EndDeviceIDs *EndDeviceIDs      `json:"end_device_ids"`
		Downlinks    *[]json.RawMessage `json:"downlinks"`
	}
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, messages.Invalid("decode_body", "body: %v", plainJSONError(err))
	}
	if req.Downlinks == nil {
		if m == Strict && !bytes.Contains(body, []byte(`"downlinks"`)) {
			return nil, messages.Invalid("no_downlinks", `body has no "downlinks": send {"downlinks":[{"f_port":1,"frm_payload":"AQI="}]}, and {"downlinks":[]} for none`)
		}
		req.Downlinks = &[]json.RawMessage{}
	}
	if len(*req.Downlinks) > MaxDownlinks {
		return nil, messages.Invalid("downlink_queue_capacity", "%d downlinks in one request: send at most %d", len(*req.Downlinks), MaxDownlinks)
	}
	if endDevice != nil && req.EndDeviceIDs != nil {
		*endDevice = messages.DeviceID{ApplicationID: req.EndDeviceIDs.ApplicationIDs.ApplicationID, DeviceID: req.EndDeviceIDs.DeviceID}
	}
	out := make([]messages.Downlink, 0, len(*req.Downlinks))
	for i, raw := range *req.Downlinks {
		raw, err := m.Settle(fmt.Sprintf("downlinks[%d]", i), raw, reflect.TypeFor[ApplicationDownlink]())
		if err != nil {
			return nil, err
		}
		var d ApplicationDownlink
		if err := json.Unmarshal(raw, &d); err != nil {
			return nil, messages.Invalid("decode_body", "downlinks[%d]: %v", i, plainJSONError(err))
		}
		item, err := d.Message()
		if err != nil {
			return nil, messages.Invalid("validate_body", "downlinks[%d]: %w", i, err)
		}
		out = append(out, item)
	}
	return out, nil
}

// CorrelationIDsIn finds the correlation ids in a body that DecodeDownlinks refused, as far as they can be read, so that the refusal reaches its author.
func CorrelationIDsIn(body []byte) []string {
	type item struct {
		CorrelationIDs  []string `json:"correlation_ids"`
		CorrelationIDs2 []string `json:"correlationIds"`
	}
	var req struct {
		Downlinks []item `json:"downlinks"`
		item             // the list may have been forgotten
	}
	_ = json.Unmarshal(body, &req)
	var ids []string
	for _, d := range append(req.Downlinks, req.item) {
		ids = append(append(ids, d.CorrelationIDs...), d.CorrelationIDs2...)
	}
	return ids
}

// plainJSONError says what is wrong without the names of Go types.
func plainJSONError(err error) string {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return strings.TrimPrefix(err.Error(), "json: ")
	}
	field := ""
	if wrong.Field != "" {
		field = wrong.Field + ": "
	}
	return fmt.Sprintf("%swant %s, not a JSON %s", field, jsonKind(wrong.Type), wrong.Value)
}

// jsonKind is what a Go type is in JSON.
func jsonKind(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	}
	return "a number"
}

// Message checks the downlink and converts it. Exactly the limits of The Things Stack: FPort up to 255 and not 224, payload up to 255 bytes,
// correlation ids up to 100 characters, max_attempts up to 100.
func (d ApplicationDownlink) Message() (messages.Downlink, error) {
	out := messages.Downlink{
		FPort: uint8(d.FPort), FRMPayload: d.FRMPayload, Confirmed: d.Confirmed, Priority: messages.Priority(d.Priority), CorrelationIDs: d.CorrelationIDs,
		DecodedPayload: null(d.DecodedPayload), ClassBC: null(d.ClassBC), FCnt: uint32(d.FCnt), SessionKeyID: d.SessionKeyID,
		TimeToLive: time.Duration(d.TimeToLive),
	}
	if d.ExpiresAt != nil {
		out.ExpiresAt = *d.ExpiresAt
	}
	var err error
	if out.AbsoluteTime, err = parseClassBC(out.ClassBC); err != nil {
		return out, err
	}
	switch {
	case d.FPort > 255 || d.FPort == 224:
		return out, messages.Invalid("f_port", "f_port %d: use 1 to 223", d.FPort)
	case len(d.FRMPayload) > 255:
		return out, messages.Invalid("frm_payload", "frm_payload has %d bytes: at most 255", len(d.FRMPayload))
	case out.DecodedPayload != nil && out.DecodedPayload[0] != '{':
		return out, messages.Invalid("decoded_payload", "decoded_payload: want an object")
	case d.FPort == 0 && out.DecodedPayload == nil:
		return out, messages.Invalid("no_f_port", "f_port is missing: use 1 to 223")
	case d.TimeToLive < 0:
		return out, messages.Invalid("time_to_live", "time_to_live %s: use a time of more than none, e.g. \"3600s\"", time.Duration(d.TimeToLive))
	}
	for _, id := range d.CorrelationIDs {
		if len(id) > 100 {
			return out, messages.Invalid("correlation_ids", "correlation id of %d characters: at most 100", len(id))
		}
	}
	if d.ConfirmedRetry != nil {
		if d.ConfirmedRetry.MaxAttempts > 100 {
			return out, messages.Invalid("downlink_max_retries_invalid", "confirmed_retry.max_attempts %d: use 1 to 100", d.ConfirmedRetry.MaxAttempts)
		}
		out.MaxAttempts = uint32(d.ConfirmedRetry.MaxAttempts)
	}
	return out, nil
}

// FromDownlink is the inverse of Message.
func FromDownlink(m messages.Downlink) ApplicationDownlink {
	d := ApplicationDownlink{
		ID: m.ID, SessionKeyID: m.SessionKeyID, FPort: Uint32(m.FPort), FCnt: Uint32(m.FCnt), FRMPayload: m.FRMPayload, DecodedPayload: m.DecodedPayload,
		DecodedPayloadWarnings: m.DecodedWarnings, Confirmed: m.Confirmed, ClassBC: m.ClassBC, Priority: Priority(m.Priority), CorrelationIDs: m.CorrelationIDs,
		Status: m.Status,
	}
	if !m.ExpiresAt.IsZero() {
		at := m.ExpiresAt.UTC()
		d.ExpiresAt = &at
	}
	if m.Confirmed && (m.Attempt != 0 || m.MaxAttempts != 0) {
		d.ConfirmedRetry = &ConfirmedRetry{Attempt: Uint32(m.Attempt), MaxAttempts: Uint32(m.MaxAttempts)}
	}
	return d
}

func null(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return nil
	}
	return raw
}
