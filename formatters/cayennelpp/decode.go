package cayennelpp

import (
	"encoding/json"
	"strconv"

	"lorikeet/messages"
)

// DecodeUplink gives an object with one member for each value, in the order of the frame; of two values with one name and channel the last counts.
func DecodeUplink(in messages.DecodeInput) (messages.Decoded, error) {
	if err := checkLength(in.Bytes); err != nil {
		return messages.Decoded{}, err
	}
	var out members
	for b := in.Bytes; len(b) > 0; {
		at := len(in.Bytes) - len(b)
		if len(b) < 2 {
			return messages.Decoded{}, messages.Invalid(errorName, "byte %d is a channel without a type: send whole values of channel, type and value", at)
		}
		q := byCode[b[1]]
		if q == nil {
			return messages.Decoded{}, messages.Invalid(errorName, "byte %d is %d, no Cayenne LPP type: send a standard type, or set another formatter if the payload is not Cayenne LPP", at+1, b[1])
		}
		text, rest, err := q.decode(b[2:])
		if err != nil {
			return messages.Decoded{}, messages.Invalid(errorName, "%s on channel %d at byte %d %w", q.name, b[0], at, err)
		}
		out.set(q.name, b[0], text)
		b = rest
	}
	return messages.Decoded{Data: out.json()}, nil
}

// DecodeDownlink reads (channel, int16/100) up to the channel 255 or the end.
func DecodeDownlink(in messages.DecodeInput) (messages.Decoded, error) {
	if err := checkLength(in.Bytes); err != nil {
		return messages.Decoded{}, err
	}
	var out members
	for b := in.Bytes; len(b) > 0 && b[0] != endOfDownlink; b = b[1+value.size:] {
		if len(b) < 1+value.size {
			return messages.Decoded{}, messages.Invalid(errorName, "byte %d starts a value that is cut off: a downlink is 3 bytes a value, channel and hundredths, and may end with 255", len(in.Bytes)-len(b))
		}
		out.set("value", b[0], appendNumber(nil, value.get(b[1:])))
	}
	return messages.Decoded{Data: out.json()}, nil
}

// checkLength bounds the work, which grows with the square of the length.
func checkLength(b []byte) error {
	if len(b) > maxPayload {
		return messages.Invalid(errorName, "%d bytes are more than the %d of the longest payload: send less at once", len(b), maxPayload)
	}
	return nil
}

// endOfDownlink in the place of a channel ends a downlink.
const endOfDownlink = 0xff

// decode gives the JSON of the value at the start of b, and what follows it.
func (q *quantity) decode(b []byte) (text, rest []byte, err error) {
	if q.code == polylineCode {
		return decodePolyline(b)
	}
	if len(q.fields) == 1 {
		if len(b) < q.fields[0].size {
			return nil, nil, errCutOff
		}
		return appendNumber(nil, q.fields[0].get(b)), b[q.fields[0].size:], nil
	}
	for i, f := range q.fields {
		if len(b) < f.size {
			return nil, nil, errCutOff
		}
		text = append(text, "{,"[min(i, 1)])
		text = strconv.AppendQuote(text, f.name)
		text = appendNumber(append(text, ':'), f.get(b))
		b = b[f.size:]
	}
	return append(text, '}'), b, nil
}

// appendNumber writes the shortest decimal that is v: 27.2 for 272/10.
func appendNumber(b []byte, v float64) []byte { return strconv.AppendFloat(b, v, 'f', -1, 64) }

// members is an object in the order of its making.
type members []member

type member struct {
	name    string
	channel byte
	text    []byte
}

func (m *members) set(name string, channel byte, text []byte) {
	for i := range *m {
		if (*m)[i].channel == channel && (*m)[i].name == name {
			(*m)[i].text = text
			return
		}
	}
	*m = append(*m, member{name, channel, text})
}

func (m members) json() json.RawMessage {
	b := append(make([]byte, 0, 2+32*len(m)), '{')
	for i, v := range m {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), v.name...), '_')
		b = append(strconv.AppendUint(b, uint64(v.channel), 10), '"', ':')
		b = append(b, v.text...)
	}
	return append(b, '}')
}
