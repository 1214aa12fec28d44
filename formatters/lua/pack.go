package lua

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// The formats of string.pack (Lua 5.3 manual §6.4.2). Native order is little-endian and native sizes are those of 64-bit Linux.
// All numbers are float64, so integers beyond 2^53 lose digits; unsigned ones of 8 bytes stay positive.

const (
	maxIntSize  = 16
	nativeAlign = 8
)

// kind is what an option packs.
type kind int

const (
	kindSigned kind = iota
	kindUnsigned
	kindFloat    // size 4
	kindDouble   // size 8
	kindFixed    // c[n]: a string of size bytes, filled with zeros
	kindPrefixed // s[n]: a string after its length in size bytes
	kindZero     // z: a string up to a zero
	kindByte     // x: a byte that is no value
	kindAlign    // X: only alignment
)

// item is one option with the padding that comes before it.
type item struct {
	kind    kind
	size    int
	padding int
}

// layout reads a format string option by option.
type layout struct {
	format   string
	at       int
	order    binary.ByteOrder
	maxAlign int
}

func newLayout(format string) *layout {
	return &layout{format: format, order: binary.LittleEndian, maxAlign: 1}
}

var errPackAlign = errors.New("format asks for alignment not power of 2")

// next gives the next item, which comes at an offset of done bytes; false at the end of the format.
func (y *layout) next(done int) (it item, ok bool, err error) {
	for y.at < len(y.format) {
		option := y.format[y.at]
		y.at++
		it, isItem, err := y.option(option)
		if err != nil {
			return item{}, false, err
		}
		if !isItem {
			continue
		}
		align := it.size
		switch it.kind {
		case kindFixed, kindZero, kindByte:
			return it, true, nil
		case kindAlign:
			if align, err = y.alignOfNext(); err != nil {
				return item{}, false, err
			}
			it.size = 0
		}
		it.padding, err = y.padding(done, align)
		return it, true, err
	}
	return item{}, false, nil
}

// padding is how many bytes bring an offset to a multiple of align, as far as the format asks for it.
func (y *layout) padding(done, align int) (int, error) {
	if align = min(align, y.maxAlign); align <= 1 {
		return 0, nil
	}
	if align&(align-1) != 0 {
		return 0, errPackAlign
	}
	return (align - done&(align-1)) & (align - 1), nil
}

// alignOfNext is the size of the option after X.
func (y *layout) alignOfNext() (int, error) {
	if y.at < len(y.format) {
		option := y.format[y.at]
		y.at++
		it, isItem, err := y.option(option)
		if err != nil {
			return 0, err
		}
		if isItem && it.kind != kindFixed && it.size > 0 && it.kind != kindAlign && it.kind != kindByte {
			return it.size, nil
		}
	}
	return 0, errors.New("invalid next option for option 'X'")
}

// fixedOptions are those without a number.
var fixedOptions = map[byte]item{
	'b': {kind: kindSigned, size: 1}, 'B': {kind: kindUnsigned, size: 1}, 'h': {kind: kindSigned, size: 2}, 'H': {kind: kindUnsigned, size: 2},
	'l': {kind: kindSigned, size: 8}, 'L': {kind: kindUnsigned, size: 8}, 'j': {kind: kindSigned, size: 8}, 'J': {kind: kindUnsigned, size: 8},
	'T': {kind: kindUnsigned, size: 8}, 'f': {kind: kindFloat, size: 4}, 'd': {kind: kindDouble, size: 8}, 'n': {kind: kindDouble, size: 8},
	'z': {kind: kindZero}, 'x': {kind: kindByte, size: 1}, 'X': {kind: kindAlign},
}

// option reads one option; those that only change how others are read are no items.
func (y *layout) option(option byte) (it item, isItem bool, err error) {
	if it, ok := fixedOptions[option]; ok {
		return it, true, nil
	}
	switch option {
	case 'i':
		it.kind = kindSigned
		it.size, err = y.size(4)
	case 'I':
		it.kind = kindUnsigned
		it.size, err = y.size(4)
	case 's':
		it.kind = kindPrefixed
		it.size, err = y.size(8)
	case 'c':
		it.kind = kindFixed
		if it.size = y.number(-1); it.size < 0 {
			err = errors.New("missing size for format option 'c'")
		}
	case '!':
		y.maxAlign, err = y.size(nativeAlign)
		return it, false, err
	case '<', '=':
		y.order = binary.LittleEndian
		return it, false, nil
	case '>':
		y.order = binary.BigEndian
		return it, false, nil
	case ' ':
		return it, false, nil
	default:
		err = fmt.Errorf("invalid format option '%c'", option)
	}
	return it, true, err
}

// number reads a decimal number; beyond what any string holds it stays the same.
func (y *layout) number(missing int) int {
	if y.at >= len(y.format) || !isDigit(y.format[y.at]) {
		return missing
	}
	n := 0
	for ; y.at < len(y.format) && isDigit(y.format[y.at]); y.at++ {
		n = min(n*10+int(y.format[y.at]-'0'), maxString+1)
	}
	return n
}

func (y *layout) size(missing int) (int, error) {
	n := y.number(missing)
	if n < 1 || n > maxIntSize {
		return 0, fmt.Errorf("integral size (%d) out of limits [1,%d]", n, maxIntSize)
	}
	return n, nil
}

// appendInteger writes v in size bytes.
func (y *layout) appendInteger(b []byte, v float64, it item) ([]byte, error) {
	if v != math.Trunc(v) || math.IsInf(v, 0) {
		return nil, errors.New("number has no integer representation")
	}
	low, high := 0.0, math.Ldexp(1, 8*it.size)
	if it.kind == kindSigned {
		low, high = -high/2, high/2
	} else if it.size >= 8 {
		low = -1 << 63 // as Lua, whose integers have no unsigned kind
	}
	if v < low || v >= high || v >= 1<<64 || it.kind == kindSigned && v >= 1<<63 || v < -1<<63 {
		return nil, fmt.Errorf("%g does not fit into %d bytes", v, it.size)
	}
	var bits uint64
	if v < 0 {
		bits = uint64(int64(v))
	} else {
		bits = uint64(v)
	}
	at := len(b)
	for i := range it.size {
		c := byte(0)
		switch {
		case i < 8:
			c = byte(bits >> (8 * i))
		case v < 0:
			c = 0xff
		}
		b = append(b, c)
	}
	y.reverse(b[at:])
	return b, nil
}

// reverse turns little-endian bytes into the order of the format, or back.
func (y *layout) reverse(b []byte) {
	if y.order == binary.LittleEndian {
		return
	}
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
}

// integer reads what appendInteger wrote.
func (y *layout) integer(s string, signed bool) (float64, error) {
	var little [maxIntSize]byte
	b := little[:copy(little[:], s)]
	y.reverse(b)
	bits := binary.LittleEndian.Uint64(little[:8])
	if unused := 64 - 8*len(b); signed && unused > 0 {
		bits = uint64(int64(bits<<unused) >> unused)
	}
	beyond := byte(0)
	if signed && bits>>63 == 1 {
		beyond = 0xff
	}
	for i := 8; i < len(b); i++ {
		if b[i] != beyond {
			return 0, fmt.Errorf("%d-byte integer does not fit into a number", len(b))
		}
	}
	if signed {
		return float64(int64(bits)), nil
	}
	return float64(bits), nil
}

// float reads a kindFloat or kindDouble.
func (y *layout) float(s string) float64 {
	if len(s) == 4 {
		return float64(math.Float32frombits(y.order.Uint32([]byte(s))))
	}
	return math.Float64frombits(y.order.Uint64([]byte(s)))
}

func (y *layout) appendFloat(b []byte, v float64, it item) []byte {
	var raw [8]byte
	if it.kind == kindFloat {
		y.order.PutUint32(raw[:], math.Float32bits(float32(v)))
	} else {
		y.order.PutUint64(raw[:], math.Float64bits(v))
	}
	return append(b, raw[:it.size]...)
}
