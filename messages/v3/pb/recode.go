package pb

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// hexFields are the members that are hex in the JSON of The Things Stack; protobuf's own JSON has all bytes in base64.
var hexFields = map[protoreflect.Name]bool{
	"dev_eui": true, "join_eui": true, "dev_addr": true, "eui": true, "net_id": true, "ns_id": true, "key": true,
	"forwarder_net_id": true, "forwarder_gateway_eui": true, "home_network_net_id": true,
}

// recoder copies the JSON of one message without space and with another encoding of hexFields.
type recoder struct {
	in   []byte // valid JSON without space
	at   int
	out  []byte
	text func(out, text []byte) ([]byte, error) // one hexField
}

// recode copies the JSON of a message of the type md. Members that md does not have are left out.
func recode(in []byte, md protoreflect.MessageDescriptor, text func(out, text []byte) ([]byte, error)) ([]byte, error) {
	var compact bytes.Buffer
	compact.Grow(len(in))
	if err := json.Compact(&compact, in); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	r := recoder{in: compact.Bytes(), out: make([]byte, 0, compact.Len()+64), text: text}
	if compact.Len() == 0 || r.in[0] != '{' {
		return nil, fmt.Errorf("not an object")
	}
	err := r.message(md)
	return r.out, err
}

// message copies an object. Its depth is bounded by json.Compact and by the depth of the messages.
func (r *recoder) message(md protoreflect.MessageDescriptor) error {
	r.at++ // {
	r.out = append(r.out, '{')
	for first := true; r.in[r.at] != '}'; {
		if r.in[r.at] == ',' {
			r.at++
		}
		name := r.skip()
		r.at++ // :
		field := md.Fields().ByTextName(string(bytes.Trim(name, `"`)))
		if field == nil {
			r.skip()
			continue
		}
		if !first {
			r.out = append(r.out, ',')
		}
		first = false
		r.out = append(append(r.out, name...), ':')
		if err := r.field(field); err != nil {
			return err
		}
	}
	r.at++
	r.out = append(r.out, '}')
	return nil
}

func (r *recoder) field(field protoreflect.FieldDescriptor) error {
	switch {
	case field.Kind() == protoreflect.BytesKind && hexFields[field.Name()] && r.in[r.at] == '"':
		return r.hexField(field)
	case field.IsMap() || field.Message() == nil || field.Message().FullName().Parent() == "google.protobuf":
		r.out = append(r.out, r.skip()...)
		return nil
	case field.IsList() && r.in[r.at] == '[':
		return r.list(field.Message())
	}
	return r.value(field.Message())
}

func (r *recoder) value(md protoreflect.MessageDescriptor) error {
	if r.in[r.at] == '{' {
		return r.message(md)
	}
	r.out = append(r.out, r.skip()...) // null, or a mistake that the reader of the message finds
	return nil
}

func (r *recoder) list(md protoreflect.MessageDescriptor) error {
	for r.in[r.at] != ']' { // at [ or ,
		r.out = append(r.out, r.in[r.at])
		if r.at++; r.in[r.at] == ']' {
			break
		}
		if err := r.value(md); err != nil {
			return err
		}
	}
	r.at++
	r.out = append(r.out, ']')
	return nil
}

func (r *recoder) hexField(field protoreflect.FieldDescriptor) (err error) {
	value := r.skip()
	r.out = append(r.out, '"')
	if r.out, err = r.text(r.out, value[1:len(value)-1]); err != nil {
		return fmt.Errorf("%s: %w", field.Name(), err)
	}
	r.out = append(r.out, '"')
	return nil
}

// skip returns the value at r.at and goes behind it.
func (r *recoder) skip() []byte {
	start, depth := r.at, 0
	for {
		switch r.in[r.at] {
		case '"':
			for r.at++; r.in[r.at] != '"'; r.at++ {
				if r.in[r.at] == '\\' {
					r.at++
				}
			}
			r.at++
		case '{', '[':
			depth++
			r.at++
			continue // there is at least the end of it
		case '}', ']':
			depth--
			r.at++
		case ',', ':':
			r.at++
			continue
		default: // a number or a word
			for r.at < len(r.in) && !bytes.ContainsRune([]byte(",:]}"), rune(r.in[r.at])) {
				r.at++
			}
		}
		if depth == 0 {
			return r.in[start:r.at]
		}
	}
}

func hexToBase64(out, text []byte) ([]byte, error) {
	raw := make([]byte, hex.DecodedLen(len(text)))
	if _, err := hex.Decode(raw, text); err != nil {
		return out, fmt.Errorf("want hex digits")
	}
	return base64.StdEncoding.AppendEncode(out, raw), nil
}

func base64ToHex(out, text []byte) ([]byte, error) {
	raw, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return out, fmt.Errorf("want base64")
	}
	return append(out, bytes.ToUpper([]byte(hex.EncodeToString(raw)))...), nil
}
