package javascript

import (
	"encoding/binary"
	"math"
	"math/big"
	"regexp"
	"strings"

	"github.com/dop251/goja"
)

// bufferClass makes the class.
func (c *call) bufferClass() goja.Value {
	return c.make(bufferProgram(), c.vm.NewDynamicObject(&bufferReaders{c: c, made: map[string]goja.Value{}}))
}

// bufferReaders has the methods of Buffer that read and write numbers, each made when it is first used.
type bufferReaders struct {
	c    *call
	made map[string]goja.Value
}

// fixedSize is the name of such a method: what it does, the type, the order of bytes.
var fixedSize = regexp.MustCompile(`^(read|write)(U[Ii]nt8|Int8|(?:(?:U[Ii]nt|Int)(?:16|32)|Float|Double|Big(?:U[Ii]nt|Int)64)([LB]E))$`)

// Get makes a method; nil for other names.
func (b *bufferReaders) Get(name string) goja.Value {
	if v := b.made[name]; v != nil {
		return v
	}
	if !strings.HasPrefix(name, "read") && !strings.HasPrefix(name, "write") {
		return nil
	}
	parts := fixedSize.FindStringSubmatch(name)
	if parts == nil {
		return nil
	}
	kind := strings.TrimSuffix(strings.TrimSuffix(strings.Replace(parts[2], "Uint", "UInt", 1), "LE"), "BE")
	var order binary.ByteOrder = binary.BigEndian
	if parts[3] == "LE" {
		order = binary.LittleEndian
	}
	method := b.reader(kind, order)
	if parts[1] == "write" {
		method = b.writer(kind, order)
	}
	v := b.c.vm.ToValue(method)
	b.made[name] = v
	return v
}

func (b *bufferReaders) Set(name string, v goja.Value) bool { b.made[name] = v; return true }
func (b *bufferReaders) Has(name string) bool               { return b.Get(name) != nil }
func (b *bufferReaders) Delete(name string) bool            { delete(b.made, name); return true }
func (b *bufferReaders) Keys() []string                     { return nil }

var sizes = map[string]int{"UInt8": 1, "Int8": 1, "UInt16": 2, "Int16": 2, "UInt32": 4, "Int32": 4, "Float": 4, "Double": 8, "BigUInt64": 8, "BigInt64": 8}

// place gives the bytes that a method works on and their offset.
func (b *bufferReaders) place(call goja.FunctionCall, argument, size int) ([]byte, int) {
	bytes, ok := call.This.Export().([]byte)
	if !ok {
		panic(b.c.vm.NewTypeError("this is not a Buffer"))
	}
	at := call.Argument(argument)
	if !goja.IsUndefined(at) && !goja.IsNumber(at) {
		panic(b.c.vm.NewTypeError(`The "offset" argument must be of type number`))
	}
	offset := 0.0
	if goja.IsNumber(at) {
		offset = at.ToFloat()
	}
	if !(offset >= 0 && offset == math.Trunc(offset) && offset+float64(size) <= float64(len(bytes))) {
		panic(b.c.rangeError("Attempt to access memory outside buffer bounds"))
	}
	return bytes[int(offset) : int(offset)+size], int(offset)
}

// rangeError is one of the script's own.
func (c *call) rangeError(text string) goja.Value {
	e, err := c.vm.New(c.vm.Get("RangeError"), c.vm.ToValue(text))
	c.check(err)
	return e
}

func (b *bufferReaders) reader(kind string, order binary.ByteOrder) func(goja.FunctionCall) goja.Value {
	return func(call goja.FunctionCall) goja.Value {
		at, _ := b.place(call, 0, sizes[kind])
		return b.c.vm.ToValue(number(kind, order, at))
	}
}

func number(kind string, order binary.ByteOrder, b []byte) any {
	switch kind {
	case "UInt8":
		return int64(b[0])
	case "Int8":
		return int64(int8(b[0]))
	case "UInt16":
		return int64(order.Uint16(b))
	case "Int16":
		return int64(int16(order.Uint16(b)))
	case "UInt32":
		return int64(order.Uint32(b))
	case "Int32":
		return int64(int32(order.Uint32(b)))
	case "Float":
		return float64(math.Float32frombits(order.Uint32(b)))
	case "Double":
		return math.Float64frombits(order.Uint64(b))
	case "BigUInt64":
		return new(big.Int).SetUint64(order.Uint64(b))
	}
	return big.NewInt(int64(order.Uint64(b)))
}

func (b *bufferReaders) writer(kind string, order binary.ByteOrder) func(goja.FunctionCall) goja.Value {
	return func(call goja.FunctionCall) goja.Value {
		at, offset := b.place(call, 1, sizes[kind])
		value := call.Argument(0)
		switch {
		case strings.HasPrefix(kind, "Big"):
			n, ok := value.Export().(*big.Int)
			if !ok {
				panic(b.c.vm.NewTypeError("Cannot convert %s to a BigInt", value))
			}
			order.PutUint64(at, new(big.Int).And(n, new(big.Int).SetUint64(math.MaxUint64)).Uint64())
		case kind == "Float":
			order.PutUint32(at, math.Float32bits(float32(value.ToFloat())))
		case kind == "Double":
			order.PutUint64(at, math.Float64bits(value.ToFloat()))
		default:
			putInteger(order, at, integer(value))
		}
		return b.c.vm.ToValue(int64(offset + len(at)))
	}
}

// integer is v modulo 2^32, as a typed array takes it.
func integer(v goja.Value) uint32 {
	f := v.ToFloat()
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return 0
	}
	return uint32(int64(math.Mod(math.Trunc(f), 1<<32)))
}

func putInteger(order binary.ByteOrder, at []byte, n uint32) {
	switch len(at) {
	case 1:
		at[0] = byte(n)
	case 2:
		order.PutUint16(at, uint16(n))
	default:
		order.PutUint32(at, n)
	}
}
