package lua

import (
	"encoding/binary"
	"math"
	"strconv"

	vm "github.com/yuin/gopher-lua"
)

// newBytes has a reader for each integer of 8 to 32 bits and each float, in both orders: bytes.u16le(t, pos). The data is a list of bytes,
// such as input.bytes, or a string; positions start at 1.
func newBytes() map[string]vm.LValue {
	readers := map[string]vm.LGFunction{"tostring": bytesToString, "fromstring": bytesFromString, "u8": readInteger(1, false, false), "i8": readInteger(1, true, false)}
	for size := 2; size <= 4; size++ {
		bits := strconv.Itoa(8 * size)
		for _, signed := range []bool{false, true} {
			name := map[bool]string{false: "u", true: "i"}[signed] + bits
			readers[name+"le"], readers[name+"be"] = readInteger(size, signed, false), readInteger(size, signed, true)
		}
	}
	readers["f32le"], readers["f32be"] = readFloat(4, binary.LittleEndian), readFloat(4, binary.BigEndian)
	readers["f64le"], readers["f64be"] = readFloat(8, binary.LittleEndian), readFloat(8, binary.BigEndian)
	return functions(readers)
}

// byteAt gives the byte of element i of a list.
func byteAt(l *vm.LState, t *vm.LTable, i int) byte {
	v, ok := t.RawGetInt(i).(vm.LNumber)
	if !ok || !(v >= 0 && v < 256) {
		l.RaiseError("element %d of the list is %s: want a byte of 0 to 255", i, t.RawGetInt(i))
	}
	return byte(v)
}

// readBytes reads len(b) bytes at the position in argument 2, 1 if it is missing.
func readBytes(l *vm.LState, b []byte) {
	at := l.OptInt(2, 1)
	length := 0
	t, isTable := l.Get(1).(*vm.LTable)
	if isTable {
		length = t.Len()
	} else {
		length = len(l.CheckString(1))
	}
	if at < 1 || at > length || at+len(b)-1 > length {
		l.RaiseError("%d byte(s) at position %d are not in the %d bytes of the data", len(b), at, length)
	}
	if !isTable {
		copy(b, l.CheckString(1)[at-1:])
		return
	}
	for i := range b {
		b[i] = byteAt(l, t, at+i)
	}
}

func readInteger(size int, signed, bigEndian bool) vm.LGFunction {
	return func(l *vm.LState) int {
		var b [4]byte
		readBytes(l, b[:size])
		var n uint32
		for i := range size {
			if bigEndian {
				n = n<<8 | uint32(b[i])
			} else {
				n |= uint32(b[i]) << (8 * i)
			}
		}
		if shift := 32 - 8*size; signed {
			l.Push(vm.LNumber(int32(n<<shift) >> shift))
		} else {
			l.Push(vm.LNumber(n))
		}
		return 1
	}
}

func readFloat(size int, order binary.ByteOrder) vm.LGFunction {
	return func(l *vm.LState) int {
		var b [8]byte
		readBytes(l, b[:size])
		if size == 4 {
			l.Push(vm.LNumber(math.Float32frombits(order.Uint32(b[:]))))
		} else {
			l.Push(vm.LNumber(math.Float64frombits(order.Uint64(b[:]))))
		}
		return 1
	}
}

// bytesArg reads argument i: a list of bytes or a string.
func bytesArg(l *vm.LState, i int) []byte {
	t, ok := l.Get(i).(*vm.LTable)
	if !ok {
		return []byte(l.CheckString(i))
	}
	n := t.Len()
	runOf(l).mustMake(l, n)
	b := make([]byte, n)
	for j := range b {
		b[j] = byteAt(l, t, j+1)
	}
	return b
}

// bytesToString makes a string of a list of bytes: bytes.tostring(t), bytes.tostring(t, from, to).
func bytesToString(l *vm.LState) int {
	b := bytesArg(l, 1)
	from, to := sliceOffsets(l, 2, len(b), -1)
	l.Push(vm.LString(b[from:to]))
	return 1
}

func bytesFromString(l *vm.LState) int {
	s := l.CheckString(1)
	if len(s) >= maxArray {
		l.RaiseError("a string of %d bytes is too long for a list: at most %d", len(s), maxArray-1)
	}
	runOf(l).mustMake(l, len(s))
	l.Push(byteTable(l, []byte(s)))
	return 1
}
