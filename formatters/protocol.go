package formatters

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"lorikeet/messages"
)

// A frame is four bytes of length, most significant first, and as many bytes. Inside, integers are varints, texts and byte strings are preceded by
// their length, lists by their count. Both ends are the same binary; hello tells a worker that is something else.
const (
	hello        = "lorikeet formatter worker 2"
	frameHeader  = 4
	maxFrame     = 2 << 20
	maxInputData = 256 << 10 // bytes of EncodeInput.Data
)

// operation is what is asked of a script.
type operation uint8

const (
	opCheck operation = iota + 1 // compile only
	opDecodeUplink
	opDecodeDownlink
	opEncodeDownlink
)

// language of a script, as the protocol says it.
type language uint8

const (
	javaScript language = iota + 1
	luaScript
)

// request to a worker.
type request struct {
	op       operation
	language language
	id       uint64
	timeout  time.Duration // processor time
	new      bool          // the source comes with it; otherwise the worker should know the script by its id
	source   string
	decode   messages.DecodeInput
	encode   messages.EncodeInput
}

// device that the call is for; zero if it is for none.
func (r *request) device() messages.DeviceID {
	if r.op == opEncodeDownlink {
		return r.encode.Device
	}
	return r.decode.Device
}

// status begins an answer.
type status uint8

const (
	statusOK      status = iota + 1
	statusError          // a messages.Error follows
	statusUnknown        // send the script
)

// answer of a worker.
type answer struct {
	status  status
	tired   bool            // the worker wants to be replaced: it can't give back the memory of a former call
	err     *messages.Error // of statusError; with statusOK, why what was decoded could not be normalized
	decoded messages.Decoded
	encoded messages.Encoded
}

var errFrame = errors.New("malformed frame")

// readFrame gives the content of the next frame; io.EOF before its first byte.
func readFrame(r io.Reader) ([]byte, error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(header[:])
	if n > maxFrame {
		return nil, fmt.Errorf("%w: %d bytes", errFrame, n)
	}
	content := make([]byte, n)
	if _, err := io.ReadFull(r, content); err != nil {
		return nil, fmt.Errorf("%w: %w", errFrame, err)
	}
	return content, nil
}

// openFrame leaves room for the length that closeFrame writes.
func openFrame(b []byte) []byte { return append(b[:0], 0, 0, 0, 0) }

func closeFrame(b []byte) []byte {
	binary.BigEndian.PutUint32(b, uint32(len(b)-frameHeader))
	return b
}

func appendText[T ~string | ~[]byte](b []byte, text T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

func appendTexts[T ~string | ~[]byte](b []byte, texts []T) []byte {
	b = binary.AppendUvarint(b, uint64(len(texts)))
	for _, text := range texts {
		b = appendText(b, text)
	}
	return b
}

// appendTo makes a whole frame in the memory of b.
func (r *request) appendTo(b []byte) []byte {
	b = append(openFrame(b), byte(r.op), byte(r.language))
	b = binary.AppendUvarint(b, r.id)
	b = binary.AppendVarint(b, int64(r.timeout))
	if b = append(b, flag(r.new)); r.new {
		b = appendText(b, r.source)
	}
	switch r.op {
	case opDecodeUplink, opDecodeDownlink:
		b = append(b, r.decode.FPort)
		b = appendTime(b, r.decode.RecvTime)
		b = appendText(b, r.decode.Bytes)
		b = appendRadio(b, &r.decode)
		b = appendDevice(b, &r.decode.FormatterDevice)
	case opEncodeDownlink:
		b = append(b, r.encode.FPort)
		b = appendText(b, r.encode.Data)
		b = appendDevice(b, &r.encode.FormatterDevice)
	}
	return closeFrame(b)
}

func parseRequest(content []byte) (request, error) {
	p := parser{rest: content}
	r := request{op: operation(p.byte()), language: language(p.byte()), id: p.uvarint(), timeout: time.Duration(p.varint()), new: p.byte() != 0}
	if r.new {
		r.source = string(p.bytes())
	}
	switch r.op {
	case opCheck:
	case opDecodeUplink, opDecodeDownlink:
		r.decode = messages.DecodeInput{FPort: p.byte(), RecvTime: p.time(), Bytes: p.bytes()}
		p.radio(&r.decode)
		r.decode.FormatterDevice = p.device()
	case opEncodeDownlink:
		r.encode = messages.EncodeInput{FPort: p.byte(), Data: p.bytes(), FormatterDevice: p.device()}
	default:
		return request{}, fmt.Errorf("%w: operation %d", errFrame, r.op)
	}
	return r, p.end()
}

// appendTo makes a whole frame in the memory of b.
func (a *answer) appendTo(b []byte, op operation) []byte {
	b = append(openFrame(b), byte(a.status), flag(a.tired))
	switch {
	case a.status == statusError:
		b = appendError(b, a.err)
	case a.status != statusOK:
	case op == opDecodeUplink || op == opDecodeDownlink:
		b = appendText(b, a.decoded.Data)
		b = appendTexts(b, a.decoded.Warnings)
		b = appendTexts(b, a.decoded.Normalized)
		b = appendTexts(b, a.decoded.NormalizedWarnings)
		if b = append(b, flag(a.err != nil)); a.err != nil {
			b = appendError(b, a.err)
		}
	case op == opEncodeDownlink:
		b = append(b, a.encoded.FPort)
		b = appendText(b, a.encoded.Bytes)
		b = appendTexts(b, a.encoded.Warnings)
	}
	return closeFrame(b)
}

// parseAnswer of a request with op. The answer shares the memory of content.
func parseAnswer(content []byte, op operation) (answer, error) {
	p := parser{rest: content}
	a := answer{status: status(p.byte()), tired: p.byte() != 0}
	switch a.status {
	case statusError:
		a.err = p.err()
	case statusUnknown:
	case statusOK:
		switch op {
		case opDecodeUplink, opDecodeDownlink:
			a.decoded = messages.Decoded{Data: p.bytes(), Warnings: p.texts()}
			for range p.count() {
				a.decoded.Normalized = append(a.decoded.Normalized, json.RawMessage(p.bytes()))
			}
			a.decoded.NormalizedWarnings = p.texts()
			if p.byte() != 0 {
				a.err = p.err()
			}
		case opEncodeDownlink:
			a.encoded = messages.Encoded{FPort: p.byte(), Bytes: p.bytes(), Warnings: p.texts()}
		}
	default:
		return answer{}, fmt.Errorf("%w: status %d", errFrame, a.status)
	}
	return a, p.end()
}

func appendError(b []byte, err *messages.Error) []byte {
	return appendText(appendText(append(b, byte(err.Code)), err.Name), err.Message)
}

func flag(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// parser takes a frame apart. After the first error it gives zero values.
type parser struct {
	rest []byte
	bad  bool
}

func (p *parser) byte() byte {
	if len(p.rest) == 0 {
		p.bad = true
		return 0
	}
	b := p.rest[0]
	p.rest = p.rest[1:]
	return b
}

func (p *parser) uvarint() uint64 {
	v, n := binary.Uvarint(p.rest)
	p.skip(n)
	return v
}

func (p *parser) varint() int64 {
	v, n := binary.Varint(p.rest)
	p.skip(n)
	return v
}

func (p *parser) skip(n int) {
	if n <= 0 {
		p.bad, p.rest = true, nil
		return
	}
	p.rest = p.rest[n:]
}

// bytes is nil if there are none.
func (p *parser) bytes() []byte {
	n := p.uvarint()
	if n > uint64(len(p.rest)) {
		p.bad, p.rest = true, nil
		return nil
	}
	if n == 0 {
		return nil
	}
	b := p.rest[:n:n]
	p.rest = p.rest[n:]
	return b
}

// count of a list: each element takes a byte at least.
func (p *parser) count() int {
	n := p.uvarint()
	if n > uint64(len(p.rest)) {
		p.bad, p.rest = true, nil
		return 0
	}
	return int(n)
}

func (p *parser) texts() []string {
	var out []string
	for range p.count() {
		out = append(out, string(p.bytes()))
	}
	return out
}

func (p *parser) err() *messages.Error {
	return &messages.Error{Code: messages.Code(p.byte()), Name: string(p.bytes()), Message: string(p.bytes())}
}

func (p *parser) end() error {
	if p.bad || len(p.rest) > 0 {
		return errFrame
	}
	return nil
}
