package gateways

import (
	"fmt"

	"lorikeet/messages"
	"lorikeet/messages/v3/pb"
)

// FormatProtobuf is the format of integrations that exchange package pb instead of JSON.
const FormatProtobuf = "protobuf"

// CheckFormat refuses a format that there is not. "" is json.
func CheckFormat(format string) error {
	switch format {
	case "", "json", FormatProtobuf:
		return nil
	}
	return messages.Invalid("pubsub_format", "format %q is unknown: use json or protobuf", format)
}

// EncodeEvent gives the body of an event in a format that CheckFormat accepts. An error is permanent.
func EncodeEvent(format string, e messages.LogEntry) ([]byte, error) {
	if format != FormatProtobuf {
		return e.JSON, nil
	}
	body, err := pb.FromJSON(e.JSON)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", messages.ErrPermanent, err)
	}
	return body, nil
}
