package pb

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"lorikeet/messages"
)

// FromJSON converts an event, the JSON of v3.ApplicationUp, to the bytes of ApplicationUp. Members that The Things Stack has no number for
// are left out. An error means that the JSON is no event, or holds a number that protobuf can't: it never goes away by itself.
func FromJSON(applicationUp []byte) ([]byte, error) {
	var up ApplicationUp
	err := unmarshal(applicationUp, &up)
	if err != nil {
		// Text that JSON allows and protobuf does not (half of a surrogate pair, bytes that are not UTF-8) is the payload's, not ours to lose.
		if clean, cleanErr := cleanJSON(applicationUp); cleanErr == nil {
			up.Reset()
			err = unmarshal(clean, &up)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("event as protobuf: %w", plain(err))
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(&up)
}

func unmarshal(in []byte, m proto.Message) error {
	text, err := recode(in, m.ProtoReflect().Descriptor(), hexToBase64)
	if err != nil {
		return err
	}
	return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(text, m)
}

// cleanJSON writes JSON anew, with U+FFFD for what is not text.
func cleanJSON(in []byte) ([]byte, error) {
	if !utf8.Valid(in) {
		in = bytes.ToValidUTF8(in, []byte("\uFFFD"))
	}
	dec := json.NewDecoder(bytes.NewReader(in))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

// plain takes the library's name, and its random kind of space, off an error.
func plain(err error) error {
	text := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	return fmt.Errorf("%s", strings.TrimSpace(strings.TrimPrefix(text, "proto:")))
}

// DownlinksFromProto converts the bytes of ApplicationDownlinks to {"downlinks":[...]}, which v3.DecodeDownlinks reads and checks.
func DownlinksFromProto(in []byte) ([]byte, error) {
	var m ApplicationDownlinks
	return requestJSON(in, &m, func() int { return len(m.GetDownlinks()) })
}

// QueueRequestFromProto converts the bytes of DownlinkQueueRequest to {"end_device_ids":{...},"downlinks":[...]}.
func QueueRequestFromProto(in []byte) ([]byte, error) {
	var m DownlinkQueueRequest
	return requestJSON(in, &m, func() int { return len(m.GetDownlinks()) })
}

func requestJSON(in []byte, m proto.Message, count func() int) ([]byte, error) {
	name := m.ProtoReflect().Descriptor().Name()
	if err := proto.Unmarshal(in, m); err != nil {
		return nil, messages.Invalid("decode_body", "the body is not a %s in protobuf, which is the format of this integration: %w", name, plain(err))
	}
	if len(m.ProtoReflect().GetUnknown()) > 0 { // some other message, or text that looks like one: not to be taken for an empty list
		return nil, messages.Invalid("decode_body", "the body is not a %s in protobuf, which is the format of this integration: it has other fields", name)
	}
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, messages.Invalid("decode_body", "%s: %w", name, plain(err))
	}
	text, err = recode(text, m.ProtoReflect().Descriptor(), base64ToHex)
	if err != nil {
		return nil, err
	}
	if count() == 0 { // an empty list is left out, but here it says that there are none
		if text = text[:len(text)-1]; len(text) > 1 {
			text = append(text, ',')
		}
		text = append(text, `"downlinks":[]}`...)
	}
	return text, nil
}
